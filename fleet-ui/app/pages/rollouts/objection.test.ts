import { expect, it } from "vitest";
import { objectionOf } from "./objection";

const body = (rest: string) => ({ field: "body", detail: `Failed to deserialize the JSON body into the target type: ${rest} at line 1 column 64` });

it("finds the part and the place in it", () => {
  expect(objectionOf(body("plan.gates[0]: p95<1.2y\n    ^ this unit does not fit"))).toEqual({ field: "gates", reason: "this unit does not fit", excerpt: "p95<1.2y\n    ^" });
  expect(objectionOf(body("plan.waves: 1%,x%\n   ^ not a number before `%`"))).toEqual({ field: "waves", reason: "not a number before `%`", excerpt: "1%,x%\n   ^" });
  expect(objectionOf(body("plan.max_failed: z\n^ a limit is 0% to 100%"))).toMatchObject({ field: "max_failed", excerpt: "z\n^" });
  expect(objectionOf({ field: "selector", detail: "column 6: expected a value\nsite=(\n     ^ expected a value" })).toEqual({ field: "selector", reason: "expected a value", excerpt: "site=(\n     ^" });
});

it("keeps what has no place as it is", () => {
  expect(objectionOf(body("plan.constraints.min_memory_bytes: invalid type: string"))).toEqual({ field: "min_memory_bytes", reason: "invalid type: string" });
  expect(objectionOf({ detail: "there is no version `1` of model `nope`" })).toEqual({ field: "", reason: "there is no version `1` of model `nope`" });
  expect(objectionOf({ field: "plan.window", detail: "too short" })).toEqual({ field: "window", reason: "too short" });
  expect(objectionOf({})).toEqual({ field: "", reason: "" });
});
