import { expect, it } from "vitest";
import { readChecks } from "./checks";

it("reads checks, what is wrong first, and leaves out what is none", () => {
  const ok = { check: "clock", level: "ok", detail: "5 ms away" };
  const fail = { check: "disk", level: "fail", detail: "full", advice: "free some space" };
  expect(readChecks([ok, { check: "x", level: "odd" }, null, fail])).toEqual([fail, { ...ok, advice: "" }]);
  expect(readChecks({ check: "x" })).toBeUndefined();
});
