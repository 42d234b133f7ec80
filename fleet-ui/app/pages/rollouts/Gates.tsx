/** What each gate says, before beside new, and how that went from the beginning. */
import { Text } from "@mantine/core";
import { lazy, Suspense, useMemo } from "react";
import { api, type Schemas } from "~/api/client";
import { LONG } from "~/api/invalidate";
import { text } from "~/text";
import { ErrorPanel } from "~/ui/ErrorPanel";
import { gateValue, integer } from "~/ui/format";
import { Section } from "~/ui/Section";
import { StateBadge, type Tone } from "~/ui/StateBadge";
import { gateLines, type GateLines } from "./gateSeries";

const Chart = lazy(async () => ({ default: (await import("~/ui/Chart")).Chart }));
const words = text.rollouts;
const VERDICTS: Record<Schemas["Verdict"], Tone> = { holds: "good", fails: "bad", unknown: "quiet" };

export function Gates({ rollout }: { rollout: Schemas["RolloutView"] }) {
  const gated = rollout.plan.gates.length > 0;
  const over = api.useQuery("get", "/api/v1/rollouts/{id}/gates", { params: { path: { id: rollout.id } } }, { meta: LONG, enabled: gated });
  const lines = useMemo(() => gateLines(over.data?.gates ?? []), [over.data]);
  if (!gated) return <Section title={words.gates}><Text size="sm" className="dim">{words.noGates}</Text></Section>;
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
      {over.error && !over.data && <ErrorPanel error={over.error} retry={over.refetch} />}
      {lines.length > 0 && (
        <div className="charts" style={{ marginTop: 20 }}>
          <Suspense>{lines.map((gate, index) => <Lines key={index} of={gate} />)}</Suspense>
        </div>
      )}
    </Section>
  );
}

function Lines({ of: { gate, candidate, baseline } }: { of: GateLines }) {
  const series = useMemo(() => [{ name: words.candidate, points: candidate }, { name: words.baseline, points: baseline }], [candidate, baseline]);
  return <Chart title={`${gate}, ${words.overTime}`} unit={(value) => gateValue(gate, value)} series={series} />;
}
