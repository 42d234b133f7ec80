import { act } from "react";
import { createRoot, type Root } from "react-dom/client";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { dateSeen, useNow, useSkew } from "./clock";

let root: Root;
let seen: { now: number; skew: number };

function Clock() {
  seen = { now: useNow(), skew: useSkew() };
  return null;
}

beforeEach(() => {
  Object.assign(globalThis, { IS_REACT_ACT_ENVIRONMENT: true });
  vi.useFakeTimers({ now: 1_000_000_000 });
  root = createRoot(document.createElement("div"));
  act(() => root.render(<Clock />));
});
afterEach(() => {
  act(() => root.unmount());
  vi.useRealTimers();
});

it("follows the control plane's clock as soon as that is heard of, and goes on by it", () => {
  act(() => dateSeen(new Date(Date.now() + 1_200_000).toUTCString()));
  expect(seen).toEqual({ now: 1_001_200_000, skew: 1_200_000 });
  act(() => vi.advanceTimersByTime(10_000));
  expect(seen).toEqual({ now: 1_001_210_000, skew: 1_200_000 });
});

it("takes less than two seconds for the way here, and nothing from an answer without a date", () => {
  act(() => dateSeen(null));
  expect(seen).toEqual({ now: 1_001_200_000, skew: 1_200_000 });
  act(() => dateSeen(new Date(Date.now() - 1_000).toUTCString()));
  expect(seen).toEqual({ now: 1_000_000_000, skew: 0 });
});
