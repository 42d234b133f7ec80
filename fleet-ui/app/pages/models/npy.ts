/**
 * A NumPy `.npy` file (format version 1 to 3) as a tensor of the Open Inference Protocol's JSON. Pure.
 *
 * Taken are C-ordered little-endian arrays of numbers and booleans up to `MAX_ELEMENTS`; JSON has no half floats, which become FP32.
 */
export interface Tensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly datatype: string;
  readonly data: readonly (number | boolean)[];
}

/** What a request of a megabyte can hold. */
export const MAX_ELEMENTS = 200_000;
const MAGIC = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59];

type Read = (view: DataView, at: number) => number | boolean;

/** Type code → its name in the protocol, its bytes, and how one is read. */
const TYPES: Record<string, readonly [datatype: string, bytes: number, read: Read]> = {
  b1: ["BOOL", 1, (view, at) => view.getUint8(at) !== 0],
  i1: ["INT8", 1, (view, at) => view.getInt8(at)],
  i2: ["INT16", 2, (view, at) => view.getInt16(at, true)],
  i4: ["INT32", 4, (view, at) => view.getInt32(at, true)],
  i8: ["INT64", 8, (view, at) => whole(view.getBigInt64(at, true))],
  u1: ["UINT8", 1, (view, at) => view.getUint8(at)],
  u2: ["UINT16", 2, (view, at) => view.getUint16(at, true)],
  u4: ["UINT32", 4, (view, at) => view.getUint32(at, true)],
  u8: ["UINT64", 8, (view, at) => whole(view.getBigUint64(at, true))],
  f2: ["FP32", 2, (view, at) => half(view.getUint16(at, true))],
  f4: ["FP32", 4, (view, at) => view.getFloat32(at, true)],
  f8: ["FP64", 8, (view, at) => view.getFloat64(at, true)],
};

/** Throws an `Error` that says what is wrong with the file. */
export function readNpy(name: string, file: ArrayBuffer): Tensor {
  const bytes = new Uint8Array(file);
  if (bytes.length < 10 || MAGIC.some((byte, at) => bytes[at] !== byte)) throw new Error("it is not a .npy file");
  const view = new DataView(file);
  const wide = bytes[6]! >= 2;
  if (wide && bytes.length < 12) throw new Error("it is cut off");
  const begin = wide ? 12 : 10;
  const length = wide ? view.getUint32(8, true) : view.getUint16(8, true);
  if (begin + length > bytes.length) throw new Error("it is cut off");
  const header = new TextDecoder("latin1").decode(bytes.subarray(begin, begin + length));
  const descr = /'descr':\s*'([^']*)'/.exec(header)?.[1];
  const dimensions = /'shape':\s*\(([^)]*)\)/.exec(header)?.[1];
  if (descr === undefined || dimensions === undefined) throw new Error("structured arrays are not tensors");
  if (descr.startsWith(">")) throw new Error("it is big-endian; save it with .astype(a.dtype.newbyteorder('<'))");
  const type = TYPES[descr.slice(1)];
  if (!type) throw new Error(`its type ${descr.slice(0, 20)} has no place in a request`);
  const shape = dimensions.split(",").map((part) => part.trim()).filter(Boolean).map(Number);
  if (shape.some((n) => !Number.isSafeInteger(n) || n < 0)) throw new Error("its shape cannot be read");
  if (/'fortran_order':\s*True/.test(header) && shape.length > 1) throw new Error("it is in Fortran order; save it with numpy.ascontiguousarray");
  const count = shape.reduce((product, n) => product * n, 1);
  if (count > MAX_ELEMENTS) throw new Error(`it has ${count} elements; at most ${MAX_ELEMENTS} fit into a request from here: use aidos predict`);
  const [datatype, width, read] = type;
  if (begin + length + count * width !== bytes.length) throw new Error("it has another number of elements than its shape says");
  return { name, shape, datatype, data: Array.from({ length: count }, (_, at) => read(view, begin + length + at * width)) };
}

function whole(value: bigint): number {
  const number = Number(value);
  if (!Number.isSafeInteger(number)) throw new Error("it has whole numbers beyond 2^53, which JSON cannot carry: use aidos predict");
  return number;
}

/** IEEE 754 binary16. */
function half(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1_024) * 2 ** (exponent - 15);
}
