/** Lines of an agent's log as a `tail-logs` command brings them, and how two readings become one. Pure. */

export interface LogLine {
  readonly at: number;
  readonly level: string;
  readonly target: string;
  readonly text: string;
}

const str = (value: unknown): string => (typeof value === "string" ? value : "");

export function readLines(json: unknown): LogLine[] {
  if (!Array.isArray(json)) return [];
  return json.flatMap((line: unknown) => {
    const { time_us, level, target, text } = (line ?? {}) as Record<string, unknown>;
    return typeof time_us === "number" ? [{ at: time_us, level: str(level).toLowerCase(), target: str(target), text: str(text) }] : [];
  });
}

/** `before` with what is new in `now`, the newest `most` of them. The two overlap where the log had few lines. */
export function append(before: readonly LogLine[], now: readonly LogLine[], most: number): LogLine[] {
  const newest = before.at(-1)?.at ?? -Infinity;
  const known = new Set(before.filter(({ at }) => at === newest).map(({ target, text }) => `${target}\n${text}`));
  const fresh = now.filter(({ at, target, text }) => at > newest || (at === newest && !known.has(`${target}\n${text}`)));
  return [...before, ...fresh].slice(-most);
}

/** What one `tail-logs` brought. */
export interface Tail {
  readonly lines: readonly LogLine[];
  /** Where to go on, and in which start of the agent; absent where the agent is too old to be gone on with. */
  readonly at?: { readonly next: number; readonly bootId: number };
  /** Lines between two readings that the device keeps no more. */
  readonly missed: number;
}

export function readTail(json: unknown): Tail {
  if (Array.isArray(json)) return { lines: readLines(json), missed: 0 };
  const { boot_id, next, missed, lines } = (json ?? {}) as Record<string, unknown>;
  const at = typeof next === "number" && typeof boot_id === "number" ? { next, bootId: boot_id } : undefined;
  return { lines: readLines(lines), missed: typeof missed === "number" ? missed : 0, ...(at && { at }) };
}

/** Seconds that the device waits for a line. */
export const TAIL_WAIT_S = 30;
const AT_MOST_EVERY_MS = 1_000;
/** A device that answers nothing before its time has no place for another who waits. */
const NO_PLACE_MS = 5_000;
/** An agent that cannot wait is asked again and again. */
const TOO_OLD_MS = 10_000;

/** How long until the next request of a follower, after one that took `tookMs`. */
export function pauseMs(tail: Tail, tookMs: number): number {
  if (!tail.at) return TOO_OLD_MS;
  const early = tail.lines.length === 0 && tookMs < (TAIL_WAIT_S * 1_000) / 2;
  return early ? NO_PLACE_MS : Math.max(0, AT_MOST_EVERY_MS - tookMs);
}
