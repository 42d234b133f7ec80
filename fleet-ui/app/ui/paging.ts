/** How lists of the API are read page by page: options for `api.useInfiniteQuery`, and all of one for exports. */
import { keepPreviousData } from "@tanstack/react-query";
import { text } from "~/text";

export const PAGE = 100;

export const paging = {
  pageParamName: "cursor",
  // Not `undefined`, in the place of which the client would send a 0.
  initialPageParam: null,
  getNextPageParam: (last: { readonly next_cursor?: string | null } | undefined) => last?.next_cursor ?? undefined,
  placeholderData: keepPreviousData,
};

/** What a table needs of a list that is read page by page. */
export interface Pages<T> {
  readonly data?: { readonly pages: readonly { readonly items: readonly T[] }[] } | undefined;
  readonly error: unknown;
  readonly isPending: boolean;
  readonly isPlaceholderData: boolean;
  readonly hasNextPage: boolean;
  readonly isFetchingNextPage: boolean;
  fetchNextPage(): Promise<unknown>;
  refetch(): Promise<unknown>;
}

export const rowsOf = <T>(pages: Pages<T>): T[] => pages.data?.pages.flatMap((page) => page.items) ?? [];

/** Rows of a page that an export reads: as many as the control plane gives at once. */
export const EXPORT_PAGE = 1_000;
/** Rows that an export holds at most: a browser's tab writes no larger file in one piece. */
export const EXPORT_MOST = 1_000_000;

/** Asks for one page of a list, with its filters. */
export type ReadPage<T> = (page: { readonly limit: number; readonly cursor?: string }) => Promise<{ readonly data?: { readonly items: readonly T[]; readonly next_cursor?: string | null } }>;

/** All rows of a list; `told` hears how many there are so far. */
export async function everything<T>(read: ReadPage<T>, told: (rows: number) => void): Promise<T[]> {
  const rows: T[] = [];
  let cursor: string | undefined;
  do {
    const { data } = await read({ limit: EXPORT_PAGE, ...(cursor !== undefined && { cursor }) });
    rows.push(...(data?.items ?? []));
    if (rows.length > EXPORT_MOST) throw new Error(text.ui.exportTooLong(EXPORT_MOST));
    told(rows.length);
    cursor = data?.next_cursor ?? undefined;
  } while (cursor !== undefined);
  return rows;
}
