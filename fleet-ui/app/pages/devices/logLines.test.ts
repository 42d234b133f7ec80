import { expect, it } from "vitest";
import { append, readLines } from "./logLines";

const line = (at: number, text = "x") => ({ at, level: "info", target: "t", text });

it("reads lines and leaves out what is none", () => {
  expect(readLines([{ time_us: 1, level: "INFO", target: "t", text: "x" }, null, 3, { level: "WARN" }])).toEqual([line(1)]);
  expect(readLines({})).toEqual([]);
});

it("adds only what is new", () => {
  expect(append([line(1), line(2)], [line(1), line(2), line(2, "y"), line(3)], 10)).toEqual([line(1), line(2), line(2, "y"), line(3)]);
  expect(append([], [line(1), line(2), line(3)], 2)).toEqual([line(2), line(3)]);
});
