import { expect, it } from "vitest";
import { byMeasure } from "./measures";

it("finds a model's metrics by version and leaves others out", () => {
  const names = ["model.digits.10.p95_us", "model.digits.2.p95_us", "model.digits.requests", "model.digits2.requests", "cpu.percent", "model.digits.2.shadow_dropped"];
  expect(byMeasure("digits", names)).toEqual([
    { measure: "requests", metrics: [{ name: "model.digits.requests" }] },
    { measure: "p95_us", metrics: [{ name: "model.digits.2.p95_us", version: "2" }, { name: "model.digits.10.p95_us", version: "10" }] },
  ]);
  expect(byMeasure("a.b", ["model.a.b.errors"])).toHaveLength(1);
});
