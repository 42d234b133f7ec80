/** How lists of the API are read page by page: options for `api.useInfiniteQuery`. */
import { keepPreviousData } from "@tanstack/react-query";

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
