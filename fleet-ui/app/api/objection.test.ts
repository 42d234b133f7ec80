import { expect, it } from "vitest";
import { objectionIn, objectionOf } from "./objection";
import { ApiError } from "./problem";

it("finds the part and the place in it", () => {
  expect(objectionOf({ field: "plan.gates[0]", detail: "p95<1.2y\n    ^ this unit does not fit" })).toEqual({ field: "gates", reason: "this unit does not fit", excerpt: "p95<1.2y\n    ^" });
  expect(objectionOf({ field: "plan.waves", detail: "1%,x%\n   ^ not a number before `%`" })).toEqual({ field: "waves", reason: "not a number before `%`", excerpt: "1%,x%\n   ^" });
  expect(objectionOf({ field: "plan.max_failed", detail: "z\n^ a limit is 0% to 100%" })).toMatchObject({ field: "max_failed", excerpt: "z\n^" });
  expect(objectionOf({ field: "selector", detail: "column 6: expected a value\nsite=(\n     ^ expected a value" })).toEqual({ field: "selector", reason: "expected a value", excerpt: "site=(\n     ^" });
});

it("keeps what has no place as it is", () => {
  expect(objectionOf({ field: "plan.constraints.min_memory_bytes", detail: "invalid type: string" })).toEqual({ field: "min_memory_bytes", reason: "invalid type: string" });
  expect(objectionOf({ detail: "there is no version `1` of model `nope`" })).toEqual({ field: "", reason: "there is no version `1` of model `nope`" });
  expect(objectionOf({})).toEqual({ field: "", reason: "" });
});

it("finds the part in whatever is sent, and says which number is expected", () => {
  expect(objectionOf({ field: "name", detail: "`A B` is not a tenant name: use 1 to 40 of a-z 0-9 -" })).toEqual({ field: "name", reason: "`A B` is not a tenant name: use 1 to 40 of a-z 0-9 -" });
  expect(objectionOf({ field: "plan.soak_s", detail: "invalid type: floating point `30.5`, expected u32" })).toEqual({ field: "soak_s", reason: "invalid type: floating point `30.5`, expected a whole number from 0 to 4294967295" });
  expect(objectionOf({ field: "plan.experiment.percent", detail: "invalid value: integer `300`, expected u8" })).toMatchObject({ field: "experiment", reason: expect.stringContaining("from 0 to 255") });
  expect(objectionOf({ field: "labels.site", detail: "invalid type: null, expected a string" })).toEqual({ field: "labels", reason: "invalid type: null, expected a string" });
  expect(objectionOf({ field: "ttl_s", detail: "ttl_s is 1, it must be 60 to 316224000" })).toEqual({ field: "ttl_s", reason: "ttl_s is 1, it must be 60 to 316224000" });
});

it("is only in what was refused for what it says", () => {
  expect(objectionIn(new ApiError(422, { field: "name", detail: "too long" }))).toEqual({ field: "name", reason: "too long" });
  for (const other of [new ApiError(403, { detail: "no" }), new ApiError(422, {}), new Error("x"), undefined]) expect(objectionIn(other)).toBeUndefined();
});
