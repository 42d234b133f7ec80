import { expect, it } from "vitest";
import { planOf, PLANS } from "./plan";

it("says only what was filled in", () => {
  const plan = planOf(PLANS.careful);
  expect(plan).toMatchObject({ waves: "1%,10%,50%,100%", soak_s: 600, max_failed: "0", auto_revert: true, on_failure: "abort" });
  expect(plan.gates).toEqual(["error_rate<1%", "p95<1.5x"]);
  for (const absent of ["max_unavailable", "window", "min_battery_percent", "max_temperature_c", "experiment", "experiment_s", "deadline_s", "watch_s", "min_requests", "not_after_us", "constraints"]) expect(plan).not.toHaveProperty(absent);
});

it("takes blank lines and blanks for nothing", () => {
  const plan = planOf({ ...PLANS.custom, gates: "\n  error_rate<2% \n\n", window: "  ", maxFailed: " ", arch: " aarch64 ", minBattery: 0, soakMinutes: 0 });
  expect(plan.gates).toEqual(["error_rate<2%"]);
  expect(plan).toMatchObject({ max_failed: "0", min_battery_percent: 0, constraints: { arch: "aarch64" } });
  expect(plan).not.toHaveProperty("window");
});

it("writes times in seconds and sizes in bytes", () => {
  const plan = planOf({ ...PLANS.custom, experiment: "split", experimentPercent: 5, experimentMinutes: 2, experimentKey: "user", deadlineMinutes: 90, watchMinutes: 0, minRequests: 50, notAfter: "2026-12-01T06:00", minMemoryMib: 512, minDiskMib: 1 });
  expect(plan).toMatchObject({
    experiment: { kind: "split", percent: 5, key: "user" }, experiment_s: 120, deadline_s: 5_400, watch_s: 0, min_requests: 50,
    not_after_us: new Date("2026-12-01T06:00").getTime() * 1_000, constraints: { min_memory_bytes: 536_870_912, min_free_disk_bytes: 1_048_576 },
  });
  expect(planOf({ ...PLANS.custom, experiment: "shadow", experimentKey: "user" }).experiment).toEqual({ kind: "shadow", percent: 10 });
});
