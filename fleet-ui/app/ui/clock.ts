/**
 * The present, by the control plane's clock. Relative times are shown against it, so that a wrong clock of the browser does not
 * say that something will have happened.
 */
import { useSyncExternalStore } from "react";

const TICK_MS = 10_000;
let skewMs = 0;
let present = Date.now();
let timer: ReturnType<typeof setInterval> | undefined;
const listeners = new Set<() => void>();

const tell = () => {
  present = Date.now() + skewMs;
  for (const listener of listeners) listener();
};

/** The control plane said that it is `micros` now. Less than two seconds is the way here. */
export function clockSeen(micros: number): void {
  const skew = micros / 1_000 - Date.now();
  skewMs = Math.abs(skew) < 2_000 ? 0 : skew;
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
