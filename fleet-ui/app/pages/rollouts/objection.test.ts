import { expect, it } from "vitest";
import { objectionOf } from "./objection";

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
