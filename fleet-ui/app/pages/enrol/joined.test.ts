import { expect, it } from "vitest";
import { joinedWith } from "./joined";

const entry = (target: string, detail: unknown, action = "device.enrol") => ({ id: target, at: 1, actor: `device:${target}`, action, target, detail });

it("knows those of the token and no others", () => {
  const entries = [entry("c", { token: "t", name: "gate" }), entry("b", { token: "u" }), entry("a", { token: "t" }), entry("d", null), entry("e", { token: "t" }, "device.edit")];
  expect(joinedWith("t", entries)).toEqual([{ device: "c", name: "gate" }, { device: "a", name: "a" }]);
});
