import { expect, it } from "vitest";
import { holds, standing } from "./updates";

it("a place in a rollout says more than how far the device is", () => {
  expect(standing({ outcome: "silent", progress: "offline" })).toEqual({ tone: "warn", word: "silent" });
  expect(standing({ outcome: "failed" })).toEqual({ tone: "bad", word: "failed" });
});

it("a deployment, and who came after a rollout, has its progress alone", () => {
  expect(standing({ progress: "ready" })).toEqual({ tone: "good", word: "ready" });
  expect(standing({ outcome: null, progress: "downloading" })).toEqual({ tone: "busy", word: "downloading" });
  expect(standing({}).tone).toBe("quiet");
});

it("what has progress is what holds", () => {
  expect([holds({ progress: "failed" }), holds({ progress: null }), holds({})]).toEqual([true, false, false]);
});
