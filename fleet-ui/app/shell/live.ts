/** The tab's event stream, joined to the queries that it makes stale. */
import { useEffect, useSyncExternalStore } from "react";
import { Invalidator } from "~/api/invalidate";
import { Live, type LiveEvent } from "~/api/live";
import { queries } from "./queries";

const invalidator = new Invalidator(queries);
const listeners = new Set<(event: LiveEvent) => void>();

export const live = new Live((event) => {
  invalidator.add(event);
  for (const listener of listeners) listener(event);
});

export const useLink = () => useSyncExternalStore(live.subscribe, live.get);

/** Calls `listener` with each event while the component is shown. */
export function useEvents(listener: (event: LiveEvent) => void): void {
  useEffect(() => {
    listeners.add(listener);
    return () => void listeners.delete(listener);
  }, [listener]);
}
