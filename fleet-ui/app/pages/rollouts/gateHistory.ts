/** What gates said while a page was open. Bounded; pure. */
import type { Schemas } from "~/api/client";

interface Point {
  readonly at: number;
  readonly value: number;
}

export type GateHistory = Readonly<Record<string, { readonly baseline: readonly Point[]; readonly candidate: readonly Point[] }>>;

const POINTS = 2_000;

const added = (points: readonly Point[], at: number, value: number | null | undefined) => (value == null || points.at(-1)?.at === at ? points : [...points, { at, value }].slice(-POINTS));

/** `before` with what `gates` say at `at`, in microseconds; what was said at that time already stays. */
export function remember(before: GateHistory, gates: readonly Schemas["GateView"][], at: number): GateHistory {
  return Object.fromEntries(
    gates.map(({ gate, baseline, candidate }) => {
      const held = before[gate] ?? { baseline: [], candidate: [] };
      return [gate, { baseline: added(held.baseline, at, baseline), candidate: added(held.candidate, at, candidate) }];
    }),
  );
}
