import { describe, expect, it } from "vitest";
import { merge, patch, settle } from "./merge";

describe("two edits of the same fields", () => {
  const base = { site: "lab", shelf: "3", row: "1" };

  it("are put together where they touch different fields", () => {
    const made = merge(base, { ...base, site: "hall" }, { site: "lab", row: "1", rack: "9" });
    expect(made).toEqual({ merged: { site: "hall", row: "1", rack: "9" }, clashes: [] });
  });

  it("are left to a person where both changed one", () => {
    const { row: _, ...without } = base;
    const made = merge(base, { ...without, site: "hall" }, { ...base, site: "cellar", row: "2" });
    expect(made.clashes).toEqual([{ key: "row", mine: undefined, theirs: "2" }, { key: "site", mine: "hall", theirs: "cellar" }]);
    expect(settle(made, () => "theirs")).toEqual({ ...base, site: "cellar", row: "2" });
    expect(settle(made, (key) => (key === "row" ? "mine" : "theirs"))).toEqual({ shelf: "3", site: "cellar" });
  });

  it("agree where both did the same", () => {
    expect(merge(base, { ...base, site: "hall" }, { ...base, site: "hall" }).clashes).toEqual([]);
  });
});

it("says only what changes", () => {
  expect(patch({ a: "1", b: "2", constructor: "x" }, { a: "1", b: "3", c: "" })).toEqual({ b: "3", c: "", constructor: null });
  expect(patch({}, {})).toEqual({});
});
