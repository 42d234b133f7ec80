/** A state in words, with a colour and a shape that help to find it; neither is needed to understand it. */
export type Tone = "good" | "busy" | "warn" | "bad" | "quiet";

const SHAPE: Record<Tone, string> = { good: "●", busy: "◐", warn: "▲", bad: "✕", quiet: "○" };

export function StateBadge({ tone, children }: { tone: Tone; children: string }) {
  return (
    <span className={`state state-${tone}`}>
      <span aria-hidden className="state-shape">{SHAPE[tone]}</span>
      {children}
    </span>
  );
}
