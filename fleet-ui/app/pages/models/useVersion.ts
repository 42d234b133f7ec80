/** One version of a model: from the pages of the list that are loaded, or asked for by itself where it is further down. */
import { api, type Schemas } from "~/api/client";

type Version = Schemas["ModelVersionView"];

/** `wanted` is a number, an alias or `latest`; nothing wanted, or nothing there by that name, is the newest. */
export function useVersion(model: string, wanted: string | undefined, listed: readonly Version[]): { version: Version | undefined; pending: boolean } {
  const found = listed.find(({ version }) => String(version) === wanted);
  const asked = wanted !== undefined && !found;
  const answer = api.useQuery("get", "/api/v1/models/{name}/versions/{version}", { params: { path: { name: model, version: wanted ?? "latest" } } }, { enabled: asked });
  return { version: found ?? (asked ? answer.data : undefined) ?? listed[0], pending: asked && answer.isPending };
}
