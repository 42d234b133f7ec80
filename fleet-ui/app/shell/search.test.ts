import { expect, it } from "vitest";
import { search } from "./search";

it("keeps what is expected and leaves the rest out", () => {
  const read = search({ q: "text", state: ["online", "offline"], wave: "text" });
  expect(read({ q: "edge", state: "online", wave: 3 })).toEqual({ q: "edge", state: "online", wave: "3" });
  expect(read({ q: "", state: "gone", wave: { a: 1 }, other: "x" })).toEqual({});
  expect(read({ q: ["a"], state: null })).toEqual({});
});

it("names what it leaves out, for the router lays it over what the URL says", () => {
  const given = { q: ["a"], state: "gone", other: "x" };
  expect({ ...given, ...search({ q: "text", state: ["online"] })(given) }).toEqual({ other: "x" });
});

it("takes nothing from what every object has", () => {
  const read = search({ q: "text" });
  expect(read(JSON.parse('{"__proto__": {"q": "x"}, "constructor": "y"}'))).toEqual({});
});

it("reads numbers in their range, yes and no, and texts that may be empty", () => {
  const read = search({ n: { min: -1, max: 10 }, on: "flag", said: "any text" });
  expect(read({ n: 0, on: false, said: "" })).toEqual({ n: 0, on: false, said: "" });
  expect(read({ n: 2.5, on: true, said: 7 })).toEqual({ n: 2.5, on: true, said: "7" });
  for (const n of [11, -2, NaN, Infinity, "3", null, [1]]) expect(read({ n })).toEqual({});
  for (const on of ["true", 1, null]) expect(read({ on })).toEqual({});
  expect(read({ said: null })).toEqual({});
});
