import { createRoute, lazyRouteComponent } from "@tanstack/react-router";
import { rootRoute } from "~/shell/routes";

export const sessionRoutes = [
  createRoute({
    getParentRoute: () => rootRoute,
    path: "/sign-in",
    // Only a path of this page: a link may not lead elsewhere after the sign-in.
    validateSearch: (search: Record<string, unknown>): { from?: string } =>
      typeof search.from === "string" && /^\/(?![/\\])/.test(search.from) ? { from: search.from } : {},
    component: lazyRouteComponent(() => import("./SignIn"), "SignIn"),
  }),
] as const;
