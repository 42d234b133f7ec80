/** The end of a list that is read page by page and is no table: the next page is read when this comes into sight, or by its button. */
import { Button } from "@mantine/core";
import { useEffect, useRef } from "react";
import { text } from "~/text";
import { rowsOf, type Pages } from "./paging";

/** So far below what is seen it begins: a page is there before one gets to it. */
const AHEAD = "400px";

export function MorePages<T>({ pages }: { pages: Pages<T> }) {
  const button = useRef<HTMLButtonElement>(null);
  const latest = useRef(pages);
  latest.current = pages;
  const more = () => {
    if (latest.current.hasNextPage && !latest.current.isFetchingNextPage) void latest.current.fetchNextPage();
  };
  const loaded = rowsOf(pages).length;
  useEffect(() => {
    if (!button.current) return;
    // Looks anew after each page, for it may still be in sight; after a failure only the button tries again.
    const observer = new IntersectionObserver((entries) => entries.some(({ isIntersecting }) => isIntersecting) && more(), { rootMargin: AHEAD });
    observer.observe(button.current);
    return () => observer.disconnect();
  }, [loaded]);
  if (!pages.hasNextPage) return null;
  return (
    <Button ref={button} fullWidth mt="xs" size="xs" variant="subtle" color="gray" loading={pages.isFetchingNextPage} onClick={more}>
      {text.ui.more}
    </Button>
  );
}
