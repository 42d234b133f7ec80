import { QueryClient } from "@tanstack/react-query";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Invalidator, LONG, touches } from "./invalidate";

const event = (kind: string, resource: string) => ({ kind, resource, at: 0, data: null });

describe("events in a burst", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it("make stale what they touch after a moment, and nothing else", async () => {
    const queries = new QueryClient({ defaultOptions: { queries: { retry: false } } });
    queries.setQueryData(["get", "/api/v1/devices", {}], 0);
    queries.setQueryData(["get", "/api/v1/models", {}], 0);
    const asked = vi.spyOn(queries, "invalidateQueries");
    const invalidator = new Invalidator(queries);
    for (let n = 0; n < 100; n++) invalidator.add(event(n % 2 ? "device.online" : "device.offline", "dev_1"));
    const stale = (path: string) => queries.getQueryState(["get", path, {}])!.isInvalidated;
    expect(stale("/api/v1/devices")).toBe(false);
    await vi.advanceTimersByTimeAsync(2_000);
    expect([stale("/api/v1/devices"), stale("/api/v1/models")]).toEqual([true, false]);
    expect(asked).toHaveBeenCalledTimes(1);
  });
});

describe("a list of many pages", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it("is read again once in ten seconds, however often something changes, and at last", async () => {
    const queries = new QueryClient({ defaultOptions: { queries: { retry: false } } });
    const key = ["get", "/api/v1/devices", {}];
    queries.setQueryData(key, { pages: Array.from({ length: 50 }, () => ({ items: [] })), pageParams: [] });
    const invalidator = new Invalidator(queries);
    const stale = () => queries.getQueryState(key)!.isInvalidated;
    for (let second = 0; second < 9; second++) {
      invalidator.add(event("device.updated", "dev_1"));
      await vi.advanceTimersByTimeAsync(1_000);
      expect(stale(), `after ${second + 1} s`).toBe(false);
    }
    await vi.advanceTimersByTimeAsync(1_500);
    expect(stale()).toBe(true);
  });
});

describe("what is marked as long", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it("is read again once in ten seconds", async () => {
    const queries = new QueryClient({ defaultOptions: { queries: { retry: false } } });
    const key = ["get", "/api/v1/rollouts/{id}/gates", { params: { path: { id: "dep_1" } } }];
    const read = vi.fn(async () => ({ gates: [] }));
    await queries.fetchQuery({ queryKey: key, queryFn: read, meta: LONG });
    const invalidator = new Invalidator(queries);
    const stale = () => queries.getQueryState(key)!.isInvalidated;
    invalidator.add(event("rollout.changed", "dep_1"));
    await vi.advanceTimersByTimeAsync(9_000);
    expect(stale()).toBe(false);
    await vi.advanceTimersByTimeAsync(1_500);
    expect(stale()).toBe(true);
  });
});

describe("what an event touches", () => {
  const of = (path: string, params: Record<string, string>) => ["get", path, { params: { path: params } }] as const;
  it("commands of any device", () => {
    expect(touches(event("command.result", "cmd_1"), of("/api/v1/devices/{device}/commands", { device: "dev_1" }))).toBe(true);
    expect(touches(event("command.result", "cmd_1"), of("/api/v1/devices/{device}", { device: "dev_1" }))).toBe(false);
  });
  it("the updates of every device, where a rollout or a deployment goes on", () => {
    const updates = of("/api/v1/devices/{device}/updates", { device: "dev_1" });
    expect([touches(event("rollout.device", "dep_1"), updates), touches(event("deployment.progress", "dep_1"), updates)]).toEqual([true, true]);
    expect(touches(event("rollout.device", "dep_1"), of("/api/v1/devices/{device}", { device: "dev_1" }))).toBe(false);
  });
  it("the activity, whoever did what", () => {
    expect(touches(event("activity.created", "evt_1"), ["get", "/api/v1/activity"])).toBe(true);
    expect(touches(event("activity.created", "evt_1"), ["get", "/api/v1/devices"])).toBe(false);
  });
  it("what one of two rollouts shows, each its own, though they come together", () => {
    const queries = new QueryClient();
    const keys = ["dep_1", "dep_2"].map((id) => ["get", "/api/v1/rollouts/{id}", { params: { path: { id } } }]);
    for (const key of keys) queries.setQueryData(key, 0);
    vi.useFakeTimers();
    const invalidator = new Invalidator(queries);
    for (const id of ["dep_1", "dep_2"]) invalidator.add(event("rollout.changed", id));
    vi.advanceTimersByTime(2_000);
    vi.useRealTimers();
    expect(keys.map((key) => queries.getQueryState(key)!.isInvalidated)).toEqual([true, true]);
  });
  it("nothing of a noun that is unknown here", () => expect(touches(event("weather.changed", "x"), ["get", "/api/v1/devices"])).toBe(false));
});
