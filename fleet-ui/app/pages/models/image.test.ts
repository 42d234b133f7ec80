import { expect, it } from "vitest";
import type { Schemas } from "~/api/client";
import { imageTensor } from "./image";

const declared = (more: Partial<Schemas["ImageInput"]>): Schemas["ImageInput"] => ({ input: "x", width: 2, height: 1, color: "rgb", layout: "NCHW", invert: "never", scale: 1, mean: [], std: [], ...more });
const pixels = new Uint8ClampedArray([10, 20, 30, 255, 40, 50, 60, 255]);

it("orders channels and dimensions as the manifest says", () => {
  expect(imageTensor(pixels, declared({}))).toEqual({ name: "x", shape: [1, 3, 1, 2], datatype: "FP32", data: [10, 40, 20, 50, 30, 60] });
  expect(imageTensor(pixels, declared({ color: "bgr" })).data).toEqual([30, 60, 20, 50, 10, 40]);
  expect(imageTensor(pixels, declared({ layout: "NHWC" }))).toMatchObject({ shape: [1, 1, 2, 3], data: [10, 20, 30, 40, 50, 60] });
});

it("scales, shifts and swaps light and dark", () => {
  expect(imageTensor(pixels, declared({ scale: 0.1, mean: [1, 0, 0], std: [2, 1, 1] })).data).toEqual([0, 1.5, 2, 5, 3, 6]);
  expect(imageTensor(pixels, declared({ color: "gray", invert: "always" })).data[0]).toBeCloseTo(255 - (0.299 * 10 + 0.587 * 20 + 0.114 * 30));
  const paper = new Uint8ClampedArray([255, 255, 255, 255, 250, 250, 250, 255]);
  expect(imageTensor(paper, declared({ color: "gray", invert: "auto" })).data[0]).toBeCloseTo(0);
  expect(imageTensor(pixels, declared({ color: "gray", invert: "auto" })).data[0]).toBeLessThan(127);
});
