import { expect, it } from "vitest";
import { append, pauseMs, readLines, readTail } from "./logLines";

const line = (at: number, text = "x") => ({ at, level: "info", target: "t", text });

it("reads lines and leaves out what is none", () => {
  expect(readLines([{ time_us: 1, level: "INFO", target: "t", text: "x" }, null, 3, { level: "WARN" }])).toEqual([line(1)]);
  expect(readLines({})).toEqual([]);
});

it("adds only what is new", () => {
  expect(append([line(1), line(2)], [line(1), line(2), line(2, "y"), line(3)], 10)).toEqual([line(1), line(2), line(2, "y"), line(3)]);
  expect(append([], [line(1), line(2), line(3)], 2)).toEqual([line(2), line(3)]);
});

it("reads where to go on, and what agents bring that cannot be gone on with", () => {
  const json = { boot_id: 4, next: 9, missed: 2, lines: [{ time_us: 1, level: "INFO", target: "t", text: "x" }] };
  expect(readTail(json)).toEqual({ lines: [line(1)], at: { next: 9, bootId: 4 }, missed: 2 });
  expect(readTail([{ time_us: 1, level: "INFO", target: "t", text: "x" }])).toEqual({ lines: [line(1)], missed: 0 });
  expect(readTail(undefined)).toEqual({ lines: [], missed: 0 });
});

it("asks again at once and never in a rush", () => {
  const at = { next: 1, bootId: 1 };
  expect(pauseMs({ lines: [line(1)], missed: 0, at }, 300)).toBe(700);
  expect(pauseMs({ lines: [line(1)], missed: 0, at }, 9_000)).toBe(0);
  expect(pauseMs({ lines: [], missed: 0, at }, 30_000)).toBe(0);
  expect(pauseMs({ lines: [], missed: 0, at }, 20)).toBe(5_000);
  expect(pauseMs({ lines: [line(1)], missed: 0 }, 20)).toBe(10_000);
});
