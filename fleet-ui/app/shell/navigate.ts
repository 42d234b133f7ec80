/** The router for code outside of components. `router.ts` sets it, so that nothing here imports the pages. */
interface Navigator {
  readonly history: { push(to: string): void; readonly location: { readonly href: string } };
}

let current: Navigator | undefined;

export function setRouter(router: Navigator): void {
  current = router;
}

export function router(): Navigator {
  if (!current) throw new Error("the router is set before anything is shown");
  return current;
}
