/** Pixels into the tensor that a manifest declares, as `aidos predict` does it. Pure. */
import type { Schemas } from "~/api/client";
import type { Tensor } from "./npy";

/** ITU-R BT.601. */
const LUMA = [0.299, 0.587, 0.114] as const;

/** `rgba`: 4 bytes per pixel, row by row, of an image that is resized already and has no transparency. */
export function imageTensor(rgba: Uint8ClampedArray, declared: Schemas["ImageInput"]): Tensor {
  const { width, height, color } = declared;
  const pixels = width * height;
  const plane = (channel: number) => Array.from({ length: pixels }, (_, at) => rgba[at * 4 + channel]!);
  const gray = () => Array.from({ length: pixels }, (_, at) => LUMA.reduce((sum, weight, channel) => sum + weight * rgba[at * 4 + channel]!, 0));
  const planes = color === "gray" ? [gray()] : (color === "rgb" ? [0, 1, 2] : [2, 1, 0]).map(plane);
  const swapped = declared.invert === "always" || (declared.invert === "auto" && lightBorder(planes[0]!, width));
  const scaled = planes.map((values, channel) => {
    const mean = declared.mean?.[channel] ?? 0;
    const std = declared.std?.[channel] ?? 1;
    return values.map((value) => ((swapped ? 255 - value : value) * (declared.scale ?? 1) - mean) / std);
  });
  if (declared.layout === "NHWC") {
    const data = Array.from({ length: pixels * scaled.length }, (_, at) => scaled[at % scaled.length]![Math.floor(at / scaled.length)]!);
    return { name: declared.input, shape: [1, height, width, scaled.length], datatype: "FP32", data };
  }
  return { name: declared.input, shape: [1, scaled.length, height, width], datatype: "FP32", data: scaled.flat() };
}

/** Whether the outermost pixels are lighter than the middle: ink on paper. */
function lightBorder(values: readonly number[], width: number): boolean {
  const rows = values.length / width;
  const border = values.filter((_, at) => {
    const [x, y] = [at % width, Math.floor(at / width)];
    return x === 0 || y === 0 || x === width - 1 || y === rows - 1;
  });
  return border.reduce((sum, value) => sum + value, 0) / border.length > 127.5;
}

/** The image in a file, brought to `width` × `height` on white. Needs a browser's canvas. */
export async function pixelsOf(file: Blob, width: number, height: number): Promise<Uint8ClampedArray> {
  const bitmap = await createImageBitmap(file, { resizeWidth: width, resizeHeight: height, resizeQuality: "high" });
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  if (!context) throw new Error("this browser has no canvas");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, width, height).data;
}
