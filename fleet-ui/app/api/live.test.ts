import { describe, expect, it } from "vitest";
import { backoff } from "./live";
import { touches } from "./invalidate";

describe("backoff", () => {
  it("grows to a bound and is never zero", () => {
    expect(backoff(0, () => 0)).toBe(500);
    expect(backoff(0, () => 1)).toBe(1_500);
    expect(backoff(3, () => 1)).toBe(8_500);
    expect(backoff(1_000, () => 1)).toBe(30_500);
  });
});

describe("what an event touches", () => {
  const device = { kind: "device.status", resource: "a" };
  const detail = (id: string) => ["get", "/api/v1/devices/{device}", { params: { path: { device: id } } }] as const;
  it("the lists and the one that it names", () => {
    expect(touches(device, ["get", "/api/v1/devices", {}])).toBe(true);
    expect(touches(device, detail("a"))).toBe(true);
    expect(touches(device, detail("b"))).toBe(false);
    expect(touches(device, ["get", "/api/v1/models"])).toBe(false);
  });
  it("everything after a gap", () => {
    expect(touches({ kind: "reset", resource: "" }, ["get", "/api/v1/models"])).toBe(true);
  });
  it("a rollout's event touches deployments of any id", () => {
    const key = ["get", "/api/v1/deployments/{id}", { params: { path: { id: "x" } } }] as const;
    expect(touches({ kind: "rollout.changed", resource: "y" }, key)).toBe(true);
  });
});
