import { expect, it } from "vitest";
import { fromLocal, groups, panelsOf, spanOf, toLocal } from "./vitals";

it("draws what there is, together what belongs together", () => {
  const panels = panelsOf(["gpu.1.percent", "gpu.0.percent", "cpu.percent", "load.1m", "model.digits.p90_us", "secret.number"]);
  expect(panels.map(({ metrics }) => metrics)).toEqual([["cpu.percent"], ["load.1m"], ["gpu.0.percent", "gpu.1.percent"], ["model.digits.p90_us"]]);
  const link = panelsOf(["link.received_bytes_per_s", "link.rtt_ms", "link.sent_bytes_per_s", "spool.waiting_bytes", "spool.waiting_samples"]);
  expect(link.map(({ metrics }) => metrics)).toEqual([["link.rtt_ms"], ["link.received_bytes_per_s", "link.sent_bytes_per_s"], ["spool.waiting_samples"]]);
  expect(panelsOf([])).toEqual([]);
});

it("shows up to now unless a span was drawn", () => {
  expect(spanOf({}, 1_000_001)).toEqual({ from: 1_010 - 3_600, to: 1_010, live: true });
  expect(spanOf({ range: "15m" }, 1_000_000)).toEqual({ from: 100, to: 1_000, live: true });
  expect(spanOf({ from: "10", to: "20", range: "7d" }, 1_000_000)).toEqual({ from: 10, to: 20, live: false });
  for (const wrong of [{ from: "20", to: "10" }, { from: "x", to: "20" }, { from: "10" }]) expect(spanOf(wrong, 1_000_000).live).toBe(true);
});

it("asks for as many at once as are answered", () => {
  expect(groups([1, 2, 3], 2)).toEqual([[1, 2], [3]]);
  expect(groups([], 2)).toEqual([]);
});

it("reads local times back, to the minute", () => {
  expect(fromLocal(toLocal(1_795_852_020))).toBe(1_795_852_020);
  expect(fromLocal("")).toBeUndefined();
  expect(fromLocal("x")).toBeUndefined();
});
