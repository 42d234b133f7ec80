import { describe, expect, it } from "vitest";
import { grid, idOf, indexAt, read, waveOf } from "./cells";

const base64 = (bytes: readonly number[]) => btoa(String.fromCharCode(...bytes));
const ids = (count: number) => base64(Array.from({ length: count * 16 }, (_, at) => Math.floor(at / 16)));

describe("cells", () => {
  it("are read with their ids, and later without", () => {
    const first = read({ waves: [1, 2], outcomes: base64([4, 1, 0]), devices: ids(3) })!;
    expect(idOf(first, 2)).toBe(`dev_${"02".repeat(16)}`);
    expect([0, 1, 2].map((index) => waveOf(first, index))).toEqual([1, 2, 2]);
    const next = read({ waves: [1, 2], outcomes: base64([4, 4, 5]) }, first)!;
    expect([...next.outcomes]).toEqual([4, 4, 5]);
    expect(next.ids).toBe(first.ids);
  });

  it("ask for ids anew when a device joined", () => {
    const first = read({ waves: [1], outcomes: base64([0]), devices: ids(1) })!;
    expect(read({ waves: [2], outcomes: base64([0, 0]) }, first)).toBeUndefined();
    expect(read({ waves: [1], outcomes: base64([0]) })).toBeUndefined();
  });

  it("lie on a grid that fits, however many there are", () => {
    for (const count of [1, 50, 1_000, 100_000]) {
      const made = grid(count, 1_200, 400);
      expect(made.columns * made.rows).toBeGreaterThanOrEqual(count);
      expect(made.columns * made.step).toBeLessThanOrEqual(1_200);
      if (made.step > 3) expect(made.rows * made.step).toBeLessThanOrEqual(400);
    }
    expect(grid(10, 1_200, 400).step).toBe(18);
    expect(grid(5, 2, 400).columns).toBe(1);
  });

  it("are found under the pointer, and nothing beside them", () => {
    const made = grid(10, 54, 400);
    expect(made.columns).toBe(3);
    expect(indexAt(made, 10, 0, 0)).toBe(0);
    expect(indexAt(made, 10, 53, 17)).toBe(2);
    expect(indexAt(made, 10, 20, 55)).toBeUndefined();
    expect(indexAt(made, 10, 60, 0)).toBeUndefined();
    expect(indexAt(made, 10, -1, 0)).toBeUndefined();
  });
});
