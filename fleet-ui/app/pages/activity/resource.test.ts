import { describe, expect, it } from "vitest";
import { actorName, resourceOf } from "./resource";

describe("what an entry is about", () => {
  it.each([
    ["device.rename", "dev_1", { kind: "device", id: "dev_1" }],
    ["rollout.abort", "dep_1", { kind: "rollout", id: "dep_1" }],
    ["deployment.create", "dep_1", { kind: "rollout", id: "dep_1" }],
    ["model.version", "digits@3", { kind: "model", id: "digits" }],
    ["key.revoke", "key_1", { kind: "settings", tab: "keys" }],
    ["token.create", "tok_1", { kind: "settings", tab: "tokens" }],
    ["trust.publish", "ten_1", { kind: "settings", tab: "trust" }],
  ])("%s of %s has a page", (action, target, page) => expect(resourceOf({ action, target })).toEqual(page));

  it("has none where nothing shows it", () => {
    expect(resourceOf({ action: "artifact.upload", target: "sha256:00" })).toBeUndefined();
    expect(resourceOf({ action: "constructor.x", target: "y" })).toBeUndefined();
    expect(resourceOf({ action: "", target: "" })).toBeUndefined();
  });
});

describe("whoever did it", () => {
  const id = "key_01a2212402cf7304914ec843c668da53";
  it("is called by name where it is known, and by the end of the id where not", () => {
    expect(actorName(`key:${id}`, new Map([[id, "ci"]]))).toBe("key:ci");
    expect(actorName(`key:${id}`)).toBe("key:…68da53");
  });
  it("is left as it is where it is short, colons of people included", () => {
    expect(actorName("system")).toBe("system");
    expect(actorName("site:a:b")).toBe("site:a:b");
  });
});
