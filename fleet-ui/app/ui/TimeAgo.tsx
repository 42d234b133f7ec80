/** A moment relative to now, with the absolute time on hover. `at` is in microseconds, as the API has it. */
import { useMemo } from "react";
import { text } from "~/text";
import { useNow } from "./clock";
import { ago, dateTime } from "./format";

export function TimeAgo({ at }: { at: number | null | undefined }) {
  const now = useNow();
  const ms = (at ?? 0) / 1_000;
  // Dates are slow to write, and these stay as they are while the present moves on.
  const { iso, whole } = useMemo(() => ({ iso: new Date(ms).toISOString(), whole: dateTime(ms) }), [ms]);
  if (!at) return <span className="dim">{text.ui.never}</span>;
  return (
    <time className="nums nowrap" dateTime={iso} title={whole}>
      {ago(ms, now)}
    </time>
  );
}
