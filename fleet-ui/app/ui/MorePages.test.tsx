import { MantineProvider } from "@mantine/core";
import { act } from "react";
import { createRoot, type Root } from "react-dom/client";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { MorePages } from "./MorePages";
import type { Pages } from "./paging";

let root: Root;
let place: HTMLDivElement;
/** Says that the newest that is looked at has come into sight. */
let seen: () => void;
const disconnected = vi.fn();

beforeEach(() => {
  Object.assign(globalThis, { IS_REACT_ACT_ENVIRONMENT: true });
  vi.stubGlobal("matchMedia", () => ({ matches: false, addEventListener() {}, removeEventListener() {} }));
  vi.stubGlobal("IntersectionObserver", class {
    constructor(tell: (entries: { isIntersecting: boolean }[]) => void) {
      seen = () => tell([{ isIntersecting: true }]);
    }
    observe() {}
    disconnect = disconnected;
  });
  place = document.createElement("div");
  root = createRoot(place);
});
afterEach(() => {
  act(() => root.unmount());
  vi.unstubAllGlobals();
});

const fetchNextPage = vi.fn(async () => {});
const pages = (items: number, more: Partial<Pages<number>> = {}): Pages<number> => ({
  data: { pages: [{ items: Array.from({ length: items }, (_, at) => at) }] }, error: null, isPending: false, isPlaceholderData: false, hasNextPage: true, isFetchingNextPage: false,
  fetchNextPage, refetch: async () => {}, ...more,
});
const show = (shown: Pages<number>) => act(() => root.render(<MantineProvider env="test"><MorePages pages={shown} /></MantineProvider>));

it("reads the next page when it comes into sight, one at a time, and by its button", () => {
  show(pages(100));
  act(seen);
  expect(fetchNextPage).toHaveBeenCalledTimes(1);
  show(pages(100, { isFetchingNextPage: true }));
  act(seen);
  expect(fetchNextPage).toHaveBeenCalledTimes(1);
  show(pages(200));
  expect(disconnected).toHaveBeenCalled();
  act(seen);
  expect(fetchNextPage).toHaveBeenCalledTimes(2);
  act(() => place.querySelector("button")!.click());
  expect(fetchNextPage).toHaveBeenCalledTimes(3);
});

it("is not there at the end", () => {
  show(pages(7, { hasNextPage: false }));
  expect(place.querySelector("button")).toBeNull();
});
