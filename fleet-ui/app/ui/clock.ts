/**
 * The present, by the control plane's clock. Relative times are shown against it, so that a wrong clock of the browser does not
 * say that something will have happened.
 */
import { useSyncExternalStore } from "react";

const TICK_MS = 10_000;
/** So much is the way here, and the second that an answer is dated by. */
const WAY_MS = 2_000;
let skewMs = 0;
let present = Date.now();
let timer: ReturnType<typeof setInterval> | undefined;
const listeners = new Set<() => void>();

const tell = () => {
  present = Date.now() + skewMs;
  for (const listener of listeners) listener();
};

/** An answer of the control plane has this `Date`. */
export function dateSeen(date: string | null): void {
  const heard = Date.parse(date ?? "") - Date.now();
  const skew = Math.abs(heard) < WAY_MS ? 0 : heard;
  // Each answer has one; and what has none says nothing.
  if (!(Math.abs(skew - skewMs) >= WAY_MS)) return;
  skewMs = skew;
  tell();
}

function subscribe(listener: () => void): () => void {
  // Nobody has looked for a while: the time that was kept is an old one.
  if (listeners.size === 0) present = Date.now() + skewMs;
  listeners.add(listener);
  timer ??= setInterval(tell, TICK_MS);
  return () => {
    listeners.delete(listener);
    if (listeners.size > 0) return;
    clearInterval(timer);
    timer = undefined;
  };
}

export const skew = (): number => skewMs;

/** How many ms the control plane's clock is ahead of the browser's, once it has said so. */
export const useSkew = (): number => useSyncExternalStore(subscribe, () => skewMs);

/** Now in ms; anew each ten seconds. One timer serves all of a page. */
export const useNow = (): number => useSyncExternalStore(subscribe, () => present);
