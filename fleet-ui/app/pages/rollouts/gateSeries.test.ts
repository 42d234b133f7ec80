import { expect, it } from "vitest";
import { gateLines } from "./gateSeries";

const point = (at: number, candidate: number | null, baseline?: number) => ({ at, wave: 1, candidate, baseline, devices: 1, verdict: "holds" as const });

it("a gate is two lines, without what was not measured", () => {
  const points = [point(1, null), point(2, 5), point(3, 6, 4), point(4, null), point(5, 0, 0)];
  expect(gateLines([{ gate: "p95<1.2x", points }])).toEqual([
    { gate: "p95<1.2x", candidate: [{ at: 2, value: 5 }, { at: 3, value: 6 }, { at: 5, value: 0 }], baseline: [{ at: 3, value: 4 }, { at: 5, value: 0 }] },
  ]);
});

it("a gate that was measured once or never has no line", () => {
  expect(gateLines([{ gate: "memory<1.5x", points: [point(1, null), point(2, 5)] }, { gate: "self_test=pass", points: [] }])).toEqual([]);
});
