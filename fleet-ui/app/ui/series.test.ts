import { expect, it } from "vitest";
import { align } from "./series";

const series = (name: string, ...points: [number, number][]) => ({ name, points: points.map(([at, value]) => ({ at: at * 1_000_000, value })) });

it("puts series of the same times beside each other", () => {
  expect(align([series("a", [1, 10], [2, 20]), series("b", [1, 11], [2, 21])])).toEqual([[1, 2], [10, 20], [11, 21]]);
  expect(align([series("a", [1, 10])])).toEqual([[1], [10]]);
  expect(align([series("a")])).toEqual([[], []]);
  expect(align([])).toEqual([[]]);
});

it("leaves a gap where a series has nothing", () => {
  expect(align([series("a", [1, 10], [3, 30]), series("b", [2, 21], [3, 31])])).toEqual([[1, 2, 3], [10, null, 30], [null, 21, 31]]);
  expect(align([series("a", [1, 10], [2, 20]), series("b", [1, 11])])).toEqual([[1, 2], [10, 20], [11, null]]);
  expect(align([series("a"), series("b", [1, 11])])).toEqual([[1], [null], [11]]);
});
