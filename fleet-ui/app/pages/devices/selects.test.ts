import { expect, it } from "vitest";
import { selects } from "./selects";

const labels = { site: "lab", zone: "a", "example.org/gpu": "h100" };

it.each([
  ["", true], ["*", true], ["all", true], ["site=lab", true], ["site==lab,zone!=b", true], ["site=hall", false],
  ["site in (hall, lab),zone=a", true], ["site notin (lab)", false], ["rack notin (1,2)", true], ["rack!=1", true],
  ["example.org/gpu", true], ["!rack", true], ["!site", false], ["rack", false], ["site=", false],
  ["site=lab,(", false], ["toString", false], ["site ~ lab", false],
])("%s", (selector, chosen) => expect(selects(selector, labels)).toBe(chosen));
