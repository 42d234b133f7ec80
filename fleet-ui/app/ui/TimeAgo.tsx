/** A moment relative to now, with the absolute time on hover. `at` is in microseconds, as the API has it. */
import { text } from "~/text";
import { useNow } from "./clock";
import { ago, dateTime } from "./format";

export function TimeAgo({ at }: { at: number | null | undefined }) {
  const now = useNow();
  if (!at) return <span className="dim">{text.ui.never}</span>;
  const ms = at / 1_000;
  return (
    <time className="nums nowrap" dateTime={new Date(ms).toISOString()} title={dateTime(ms)}>
      {ago(ms, now)}
    </time>
  );
}
