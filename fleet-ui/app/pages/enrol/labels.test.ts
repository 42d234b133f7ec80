import { expect, it } from "vitest";
import { readLabels } from "./labels";

it("reads labels and names what is none", () => {
  expect(readLabels("site=lab, zone = a ,")).toEqual({ labels: { site: "lab", zone: "a" } });
  expect(readLabels("")).toEqual({ labels: {} });
  expect(readLabels("url=a=b,flag=")).toEqual({ labels: { url: "a=b", flag: "" } });
  expect(readLabels("site=lab,shelf").wrong).toBe("shelf");
  expect(readLabels("=x").wrong).toBe("=x");
});
