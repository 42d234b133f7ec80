import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { follow, type Answer, type Position } from "./follow";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const line = { at: 1, level: "info", target: "t", text: "x" };
const answer = (command: string, next: number, bootId: number): Answer => ({ command, tail: { lines: [line], at: { next, bootId }, missed: 0 } });

it("goes on from where the answer before ended, once a second at most, and tells of a restart", async () => {
  const answers = [answer("a", 5, 1), answer("b", 6, 1), answer("c", 2, 2)];
  const asked: (Position | undefined)[] = [];
  const restarts: boolean[] = [];
  const stop = new AbortController();
  const following = follow(
    async (from) => (asked.push(from), answers[asked.length - 1]!),
    ({ restarted }) => {
      restarts.push(restarted);
      if (restarts.length === answers.length) stop.abort();
    },
    stop.signal,
  );
  await vi.advanceTimersByTimeAsync(900);
  expect(asked).toHaveLength(1);
  await vi.advanceTimersByTimeAsync(2_000);
  await following;
  expect(asked).toEqual([undefined, { after: 5, bootId: 1, follows: "a" }, { after: 6, bootId: 1, follows: "b" }]);
  expect(restarts).toEqual([false, false, true]);
});

it("ends with the request that fails, and at once when it is stopped", async () => {
  await expect(follow(() => Promise.reject(new Error("gone")), () => undefined, new AbortController().signal)).rejects.toThrow("gone");
  const stop = new AbortController();
  const following = follow(async () => answer("a", 1, 1), () => undefined, stop.signal);
  await vi.advanceTimersByTimeAsync(1);
  stop.abort();
  await following;
});
