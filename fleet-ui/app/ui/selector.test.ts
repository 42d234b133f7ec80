import { describe, expect, it } from "vitest";
import { complete, labelsSeen } from "./selector";

const seen = labelsSeen([{ labels: { site: "lab", camera: "" } }, { labels: { site: "hall", zone: "2" } }]);

describe("a selector is completed", () => {
  it.each([
    ["", ["camera=", "site=", "zone="]],
    ["si", ["site="]],
    ["!c", ["!camera"]],
    ["site=", ["site=hall", "site=lab"]],
    ["site!=l", ["site!=lab"]],
    ["zone=2,site==h", ["zone=2,site==hall"]],
    ["site in (", ["site in (hall)", "site in (lab)"]],
    ["site in (lab,", ["site in (lab,hall)"]],
    ["site notin (lab, h", ["site notin (lab,hall)"]],
    ["site in (lab,hall),z", ["site in (lab,hall),zone="]],
  ])("%s", (typed, options) => expect(complete(typed, seen)).toEqual(options));

  it("not by what it is already, nor by labels that nobody has", () => {
    expect(complete("site=lab", seen)).toEqual([]);
    expect(complete("rack=", seen)).toEqual([]);
  });

  it("by no more options than were asked for", () => {
    const many = labelsSeen(Array.from({ length: 50 }, (_, n) => ({ labels: { [`k${n}`]: "v" } })));
    expect(complete("k", many, 5)).toHaveLength(5);
  });
});
