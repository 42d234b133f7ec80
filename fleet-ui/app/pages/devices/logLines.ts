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
