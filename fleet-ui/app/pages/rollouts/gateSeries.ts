/** What gates said over time, as charts draw it. Pure. */
import type { Schemas } from "~/api/client";

interface Point {
  readonly at: number;
  readonly value: number;
}

export interface GateLines {
  readonly gate: string;
  readonly candidate: readonly Point[];
  readonly baseline: readonly Point[];
}

const line = (points: readonly Schemas["GatePoint"][], which: "candidate" | "baseline"): Point[] =>
  points.flatMap(({ at, [which]: value }) => (value == null ? [] : [{ at, value }]));

/** The gates that have been measured more than once: one reading alone stands in the table. */
export function gateLines(gates: readonly Schemas["GateSeries"][]): GateLines[] {
  return gates
    .map(({ gate, points }) => ({ gate, candidate: line(points, "candidate"), baseline: line(points, "baseline") }))
    .filter(({ candidate }) => candidate.length > 1);
}
