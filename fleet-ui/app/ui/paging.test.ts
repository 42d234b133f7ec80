import { describe, expect, it, vi } from "vitest";
import { everything, EXPORT_MOST, EXPORT_PAGE, paging, rowsOf, type Pages, type ReadPage } from "./paging";

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

describe("all rows of a list", () => {
  const list = (length: number) => vi.fn<ReadPage<number>>(async ({ limit, cursor }) => {
    const from = Number(cursor ?? 0);
    const items = Array.from({ length: Math.min(limit, length - from) }, (_, at) => from + at);
    return { data: { items, next_cursor: from + limit < length ? String(from + limit) : null } };
  });

  it.each([0, 1, EXPORT_PAGE, EXPORT_PAGE + 1, 2_500])("are read in large pages to the end: %i", async (length) => {
    const read = list(length);
    const told: number[] = [];
    const rows = await everything(read, (n) => told.push(n));
    expect(rows).toEqual(Array.from({ length }, (_, at) => at));
    expect(read).toHaveBeenCalledTimes(Math.max(1, Math.ceil(length / EXPORT_PAGE)));
    expect(read.mock.calls[0]).toEqual([{ limit: EXPORT_PAGE }]);
    expect(told.at(-1)).toBe(length);
  });

  it("are refused where there are more than a file can have, and where a page fails", async () => {
    await expect(everything(list(EXPORT_MOST + 1), () => {})).rejects.toThrow("narrow the list");
    await expect(everything<number>(async ({ cursor }) => {
      if (cursor) throw new Error("gone");
      return { data: { items: [1], next_cursor: "2" } };
    }, () => {})).rejects.toThrow("gone");
  });
});
