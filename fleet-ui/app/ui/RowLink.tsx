/**
 * A link to the page of one resource, for tables: it follows no state of the router and has no route worked out before it is clicked, as
 * a `Link` in each of a hundred rows would at every change of the address.
 */
import { useRouter, type LinkProps } from "@tanstack/react-router";
import type { MouseEvent, ReactNode } from "react";

/** Pages of one resource, by its id. */
type Page = Extract<LinkProps["to"], `/${"devices" | "models" | "rollouts" | "settings"}/$${string}`>;

interface Props {
  readonly to: Page;
  readonly id: string;
  readonly className?: string;
  readonly children: ReactNode;
}

/** What the browser does by itself: another tab or window, or a download. */
const ofBrowser = (event: MouseEvent) => event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey;

export function RowLink({ to, id, className, children }: Props) {
  const router = useRouter();
  const href = to.replace(/\$.*$/, encodeURIComponent(id));
  const follow = (event: MouseEvent) => {
    if (event.defaultPrevented || ofBrowser(event)) return;
    event.preventDefault();
    router.history.push(href);
  };
  // The page's code is fetched once, however many rows are pointed at.
  const ready = () => void router.loadRouteChunk(router.routesByPath[to])?.catch(() => undefined);
  return <a className={className} href={href} onClick={follow} onPointerEnter={ready} onFocus={ready}>{children}</a>;
}
