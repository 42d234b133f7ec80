import { parseSearchWith, stringifySearchWith } from "@tanstack/react-router";
import { expect, it } from "vitest";
import { search } from "~/shell/search";
import { planOf, PLANS, type PlanForm } from "./plan";
import { formOf, PLAN_SEARCH, searchOf } from "./planSearch";

const parse = parseSearchWith(JSON.parse);
const stringify = stringifySearchWith(JSON.stringify, JSON.parse);
const read = search(PLAN_SEARCH);
/** As it comes out of an address that was sent to somebody. */
const sent = (form: PlanForm) => formOf(read(parse(stringify(searchOf(form)))));

const ALL: PlanForm = {
  waves: "5,canary=yes,100%", soakMinutes: 0.5, maxFailed: "5", maxUnavailable: "10%", gates: "p95<1.2x\nself_test=pass", autoRevert: false, approve: true, pauseOnFailure: true,
  window: "Mon-Fri 22:00-04:00", priority: -5, minBattery: 0, maxTemperature: -10, experiment: "split", experimentPercent: 20, experimentMinutes: 3, experimentKey: "user=&#é",
  deadlineMinutes: 90, watchMinutes: 0, minRequests: 50, notAfter: "2026-12-01T06:00", arch: "aarch64", accelerator: "any", engine: "tract", minAgentVersion: "1.4", minMemoryMib: 512, minDiskMib: 1,
};

it("comes out of the address as it went in, each part of it", () => {
  expect(sent(ALL)).toEqual(ALL);
  for (const field of Object.keys(ALL) as (keyof PlanForm)[]) expect(sent({ ...PLANS.custom, [field]: ALL[field] }), field).toEqual({ ...PLANS.custom, [field]: ALL[field] });
});

it("takes no room for what is as at first, and keeps that something was emptied", () => {
  expect(stringify(searchOf(PLANS.custom))).toBe("");
  expect(planOf(sent({ ...PLANS.custom, gates: "", waves: "" }))).toMatchObject({ gates: [], waves: "" });
  expect(sent({ ...PLANS.custom, minBattery: "" }).minBattery).toBe("");
});

it("falls back where the address says what cannot be meant", () => {
  const nonsense = "?soakMinutes=soon&autoRevert=maybe&priority=5000&minBattery=-1&experiment=both&experimentPercent=0&minRequests=1e99&deadlineMinutes=null&waves=[1]&gates={}&approve=1&unknown=x";
  expect(formOf(read(parse(nonsense)))).toEqual(PLANS.custom);
});
