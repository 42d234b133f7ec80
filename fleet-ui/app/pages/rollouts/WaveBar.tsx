/** How far the devices of a rollout are, as one bar. */
import type { Schemas } from "~/api/client";
import { text } from "~/text";
import { integer } from "~/ui/format";
import type { Tone } from "~/ui/StateBadge";
import { OUTCOMES, type Outcome } from "./cells";

export const TONES: Record<Outcome, Tone> = {
  waiting: "quiet", changing: "busy", trying: "busy", running: "busy", succeeded: "good", failed: "bad", silent: "warn",
};

export interface Part {
  readonly outcome: Outcome;
  readonly devices: number;
}

/** The devices of these waves by outcome, the furthest first. */
export function outcomeParts(waves: readonly Schemas["WaveView"][]): Part[] {
  const order: readonly Outcome[] = ["succeeded", "running", "trying", "changing", "failed", "silent", "waiting"];
  return order.map((outcome) => ({ outcome, devices: waves.reduce((sum, wave) => sum + wave[outcome], 0) })).filter(({ devices }) => devices > 0);
}

const sentence = (parts: readonly Part[]) => parts.map(({ outcome, devices }) => `${integer(devices)} ${text.rollouts.outcomes[outcome]}`).join(", ");

export function WaveBar({ parts, tall }: { parts: readonly Part[]; tall?: boolean }) {
  return (
    <span className="bar" role="img" aria-label={sentence(parts) || text.rollouts.devices(0)} style={tall ? { height: 16 } : undefined}>
      {parts.map(({ outcome, devices }) => (
        <span key={outcome} className={outcome === "waiting" ? undefined : `tag-${TONES[outcome]}`} style={{ flexGrow: devices, flexBasis: 0 }} />
      ))}
    </span>
  );
}

export function OutcomeLegend({ parts }: { parts: readonly Part[] }) {
  const shown = OUTCOMES.flatMap((outcome) => parts.filter((part) => part.outcome === outcome));
  return (
    <div className="legend">
      {shown.map(({ outcome, devices }) => (
        <span key={outcome} title={text.rollouts.outcomeHelp[outcome]}>
          <i className={`swatch tag-${TONES[outcome]}`} />
          {integer(devices)} {text.rollouts.outcomes[outcome]}
        </span>
      ))}
    </div>
  );
}
