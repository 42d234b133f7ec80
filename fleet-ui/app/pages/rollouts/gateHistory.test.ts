import { expect, it } from "vitest";
import { remember } from "./gateHistory";

const gate = (baseline: number | null, candidate: number | null) => ({ gate: "p95<1.2x", baseline, candidate, devices: 1, verdict: "holds" as const });

it("keeps a point per reading, none where nothing was measured, and forgets gates that are gone", () => {
  let history = remember({}, [gate(null, 5)], 1);
  history = remember(history, [gate(null, 5)], 1);
  history = remember(history, [gate(4, 6)], 2);
  expect(history).toEqual({ "p95<1.2x": { baseline: [{ at: 2, value: 4 }], candidate: [{ at: 1, value: 5 }, { at: 2, value: 6 }] } });
  expect(remember(history, [], 3)).toEqual({});
});

it("is bounded", () => {
  let history = {};
  for (let at = 0; at < 2_500; at++) history = remember(history, [gate(at, null)], at);
  expect(history).toMatchObject({ "p95<1.2x": { candidate: [] } });
  expect((history as ReturnType<typeof remember>)["p95<1.2x"]!.baseline).toHaveLength(2_000);
});
