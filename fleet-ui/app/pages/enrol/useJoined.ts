/**
 * Who has joined with a token. The activity says it, also of those who joined while the link was cut; an event says when to
 * look.
 */
import { useCallback } from "react";
import { api, type Schemas } from "~/api/client";
import type { LiveEvent } from "~/api/live";
import { useEvents } from "~/shell/live";
import { joinedWith, type Joined } from "./joined";

/** For what no event told. */
export const LOOK_MS = 15_000;
const NEWEST = 100;

export function useJoined(token: Schemas["CreatedToken"]): readonly Joined[] {
  const query = { action: "device.enrol", since: token.created_at, limit: NEWEST };
  const { data, refetch } = api.useQuery("get", "/api/v1/activity", { params: { query } }, { refetchInterval: LOOK_MS, staleTime: 0 });
  useEvents(useCallback((event: LiveEvent) => {
    if (event.kind === "device.enrolled" || event.kind === "reset") void refetch();
  }, [refetch]));
  return joinedWith(token.id, data?.items ?? []);
}
