import { expect, it } from "vitest";
import { rank } from "./answer";

it("names labels best first, and only where they fit", () => {
  const output = { name: "p", shape: [1, 3], datatype: "FP32", data: [0.1, 0.7, 0.2] };
  expect(rank(output, ["a", "b", "c"])?.map(({ label }) => label)).toEqual(["b", "c", "a"]);
  expect(rank({ ...output, data: [[0.1, 0.7, 0.2]] }, ["a", "b", "c"])?.[0]?.value).toBe(0.7);
  expect(rank(output, ["a", "b"])).toBeUndefined();
  expect(rank({ ...output, data: ["x", "y", "z"] }, ["a", "b", "c"])).toBeUndefined();
  expect(rank(undefined, ["a"])).toBeUndefined();
});
