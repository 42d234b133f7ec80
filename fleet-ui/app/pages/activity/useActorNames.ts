/** The names of keys behind the ids of actors, as far as the person may know them. */
import { useMemo } from "react";
import { api } from "~/api/client";
import { session } from "~/api/session";

const KEPT_MS = 5 * 60_000;
const MOST = 1_000;

export function useActorNames(): ReadonlyMap<string, string> {
  const me = session.get();
  // Keys are listed for owners; everybody knows their own.
  const keys = api.useQuery("get", "/api/v1/keys", { params: { query: { limit: MOST } } }, { enabled: session.may("owner"), staleTime: KEPT_MS });
  return useMemo(() => {
    const names = new Map((keys.data?.items ?? []).map(({ id, name }) => [id, name]));
    if (me) names.set(me.key_id, me.key_name);
    return names;
  }, [keys.data, me]);
}
