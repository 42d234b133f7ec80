import { describe, expect, it } from "vitest";
import { MAX_ELEMENTS, readNpy } from "./npy";

function npy(descr: string, shape: string, data: ArrayBufferView | Uint8Array, more = "'fortran_order': False, "): ArrayBuffer {
  let header = `{'descr': '${descr}', ${more}'shape': ${shape}, }`;
  while ((10 + header.length + 1) % 64 !== 0) header += " ";
  header += "\n";
  const bytes = new Uint8Array(10 + header.length + data.byteLength);
  bytes.set([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, header.length & 0xff, header.length >> 8]);
  bytes.set(new TextEncoder().encode(header), 10);
  bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), 10 + header.length);
  return bytes.buffer;
}

describe("a .npy file", () => {
  it("keeps its type, shape and values", () => {
    expect(readNpy("x", npy("<f4", "(1, 2)", new Float32Array([1.5, -2])))).toEqual({ name: "x", shape: [1, 2], datatype: "FP32", data: [1.5, -2] });
    expect(readNpy("x", npy("<i8", "(2,)", new BigInt64Array([-3n, 9n]))).data).toEqual([-3, 9]);
    expect(readNpy("x", npy("|b1", "(3,)", new Uint8Array([0, 1, 2]))).data).toEqual([false, true, true]);
    expect(readNpy("x", npy("<f2", "(4,)", new Uint16Array([0x3c00, 0xc000, 0x7c00, 1]))).data).toEqual([1, -2, Infinity, 2 ** -24]);
    expect(readNpy("x", npy("<f8", "()", new Float64Array([0.25])))).toMatchObject({ shape: [], data: [0.25] });
  });

  it("that cannot be used is refused with what to do", () => {
    const wrong = (file: ArrayBuffer) => () => readNpy("x", file);
    expect(wrong(new ArrayBuffer(0))).toThrow("not a .npy");
    expect(wrong(new TextEncoder().encode("PNG, rather").buffer as ArrayBuffer)).toThrow("not a .npy");
    expect(wrong(npy("<f4", "(3,)", new Float32Array(2)))).toThrow("another number");
    expect(wrong(npy(">f4", "(1,)", new Float32Array(1)))).toThrow("newbyteorder");
    expect(wrong(npy("<c8", "(1,)", new Float32Array(2)))).toThrow("no place");
    expect(wrong(npy("<f4", "(1, 1)", new Float32Array(1), "'fortran_order': True, "))).toThrow("ascontiguousarray");
    expect(wrong(npy("<f4", `(${MAX_ELEMENTS + 1},)`, new Float32Array(1)))).toThrow("aidos predict");
    expect(wrong(npy("<f4", "(-1,)", new Float32Array(1)))).toThrow("shape");
    expect(wrong(npy("<i8", "(1,)", new BigInt64Array([2n ** 60n])))).toThrow("2^53");
    const whole = npy("<f4", "(2,)", new Float32Array(2));
    for (let length = 0; length < whole.byteLength; length++) expect(wrong(whole.slice(0, length))).toThrow();
  });
});
