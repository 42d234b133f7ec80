import { expect, it } from "vitest";
import { search } from "./search";

it("keeps what is expected and leaves the rest out", () => {
  const read = search({ q: "text", state: ["online", "offline"], wave: "text" });
  expect(read({ q: "edge", state: "online", wave: 3 })).toEqual({ q: "edge", state: "online", wave: "3" });
  expect(read({ q: "", state: "gone", wave: { a: 1 }, other: "x" })).toEqual({});
  expect(read({ q: ["a"], state: null })).toEqual({});
});

it("takes nothing from what every object has", () => {
  const read = search({ q: "text" });
  expect(read(JSON.parse('{"__proto__": {"q": "x"}, "constructor": "y"}'))).toEqual({});
});
