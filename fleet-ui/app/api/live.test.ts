import { describe, expect, it, vi } from "vitest";
import { backoff, Live } from "./live";
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

describe("a connection that was cut", () => {
  const answer = (...lines: string[]) => new Response(lines.join(""), { headers: { "content-type": "text/event-stream" } });

  /** Connects once by `first` and again by an answer that has nothing to say; what was told, and how it was asked the second time. */
  async function again(first: Response) {
    const told: string[] = [];
    const asked: (string | null)[] = [];
    const answers = [first, answer(": connected\n\n")];
    vi.stubGlobal("fetch", vi.fn(async (_: string, { headers }: { headers: Record<string, string> }) => {
      asked.push(headers["last-event-id"] ?? null);
      return answers.shift() ?? new Promise<never>(() => {});
    }));
    const live = new Live((event) => told.push(event.kind));
    const lost = () => new Promise<void>((resolve) => {
      const stop = live.subscribe(() => live.get().kind === "lost" && (stop(), resolve()));
    });
    const cut = lost();
    live.start();
    await cut;
    const second = lost();
    // Not before it waits.
    await Promise.resolve();
    live.retry();
    await second;
    live.stop();
    vi.unstubAllGlobals();
    return { told, asked };
  }

  it("that had nothing to resume from has all read anew", async () => {
    expect(await again(answer(": connected\n\n"))).toEqual({ told: ["reset"], asked: [null, null] });
  });

  it("is resumed where it was", async () => {
    const event = JSON.stringify({ kind: "device.online", resource: "dev_1", at: 1, data: null });
    expect(await again(answer(`id: e.7\nevent: device.online\ndata: ${event}\n\n`))).toEqual({ told: ["device.online"], asked: [null, "e.7"] });
  });
});
