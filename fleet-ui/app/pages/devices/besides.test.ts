import { expect, it } from "vitest";
import { besideOf } from "./besides";

const model = { desired_version: 2, active_version: 1, previous_version: 2 };

it("tells the candidate from the version that is kept", () => {
  expect(besideOf({ ...model, state: "testing" })).toEqual({ candidate: { version: 2, role: "to take over" } });
  expect(besideOf({ ...model, previous_version: null, state: "downloading" })).toEqual({});
  expect(besideOf({ desired_version: 2, active_version: 2, previous_version: 1, state: "watching" })).toEqual({ previous: 1 });
  expect(besideOf({ ...model, desired_version: null, state: "ready" })).toEqual({ previous: 2 });
});

it("says which part the candidate takes", () => {
  const role = (experiment: Parameters<typeof besideOf>[1]) => besideOf({ ...model, state: "trial" }, experiment).candidate?.role;
  expect(role({ kind: "shadow", percent: 10 })).toBe("shadow, 10 % of the requests");
  expect(role({ kind: "split", percent: 50, key: null })).toBe("split, 50 % of the requests");
  expect(role({ kind: "split", percent: 50, key: "user" })).toBe("split, 50 % by user");
  expect(role(undefined)).toBe("to take over");
});

it("also knows one that was published again under the same number", () => {
  expect(besideOf({ desired_version: 1, active_version: 1, previous_version: 1, state: "trial" }).candidate?.version).toBe(1);
});

it.each(["failed", "rolled_back"] as const)("is no candidate any more once it has %s", (state) => expect(besideOf({ ...model, state })).toEqual({ previous: 2 }));
