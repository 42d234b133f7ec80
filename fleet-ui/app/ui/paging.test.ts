import { expect, it } from "vitest";
import { paging, rowsOf, type Pages } from "./paging";

it("reads on by the cursor, and stops where there is none", () => {
  expect(paging.getNextPageParam({ next_cursor: "c2" })).toBe("c2");
  for (const last of [undefined, {}, { next_cursor: null }]) expect(paging.getNextPageParam(last)).toBeUndefined();
});

it("puts the rows of all pages in line", () => {
  const idle = { error: null, isPending: false, isPlaceholderData: false, hasNextPage: false, isFetchingNextPage: false, fetchNextPage: async () => {}, refetch: async () => {} };
  const pages: Pages<number> = { ...idle, data: { pages: [{ items: [1, 2] }, { items: [] }, { items: [3] }] } };
  expect(rowsOf(pages)).toEqual([1, 2, 3]);
  expect(rowsOf({ ...pages, data: undefined })).toEqual([]);
});
