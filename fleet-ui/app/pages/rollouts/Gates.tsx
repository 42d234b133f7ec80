/** What each gate says, before beside new, and how that went since the page was opened. */
import { Text } from "@mantine/core";
import { lazy, Suspense, useEffect, useState } from "react";
import type { Schemas } from "~/api/client";
import { text } from "~/text";
import { gateValue, integer } from "~/ui/format";
import { Section } from "~/ui/Section";
import { StateBadge, type Tone } from "~/ui/StateBadge";
import { remember, type GateHistory } from "./gateHistory";

const Chart = lazy(async () => ({ default: (await import("~/ui/Chart")).Chart }));
const words = text.rollouts;
const VERDICTS: Record<Schemas["Verdict"], Tone> = { holds: "good", fails: "bad", unknown: "quiet" };

export function Gates({ rollout, readAt }: { rollout: Schemas["RolloutView"]; readAt: number }) {
  const [history, setHistory] = useState<GateHistory>({});
  // Each reading is a point, also one that says the same as the one before.
  useEffect(() => setHistory((before) => remember(before, rollout.gates, readAt * 1_000)), [rollout.id, readAt]);
  if (rollout.plan.gates.length === 0) return <Section title={words.gates}><Text size="sm" className="dim">{words.noGates}</Text></Section>;
  const drawn = Object.entries(history).filter(([, series]) => series.candidate.length > 1);
  return (
    <Section title={words.gates}>
      <div className="scroll-x" role="group" aria-label={words.gates} tabIndex={0}>
        <table className="plain">
          <thead><tr><th>{words.gate}</th><th className="end">{words.baseline}</th><th className="end">{words.candidate}</th><th className="end">{words.measuredOn}</th><th>{words.verdict}</th></tr></thead>
          <tbody>
            {rollout.gates.map(({ gate, baseline, candidate, devices, verdict }) => (
              <tr key={gate}>
                <td className="mono nowrap">{gate}</td>
                <td className="end nums">{baseline == null ? text.ui.nothing : gateValue(gate, baseline)}</td>
                <td className="end nums">{candidate == null ? text.ui.nothing : gateValue(gate, candidate)}</td>
                <td className="end nums">{integer(devices)}</td>
                <td><StateBadge tone={VERDICTS[verdict]}>{words.verdicts[verdict]}</StateBadge></td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {drawn.length > 0 && (
        <div className="charts" style={{ marginTop: 20 }}>
          <Suspense>
            {drawn.map(([gate, { baseline, candidate }]) => (
              <Chart key={gate} title={`${gate}, ${words.gateHistory}`} unit={(value) => gateValue(gate, value)} series={[{ name: words.candidate, points: candidate }, { name: words.baseline, points: baseline }]} />
            ))}
          </Suspense>
        </div>
      )}
    </Section>
  );
}
