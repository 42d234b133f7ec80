import { createRoute, lazyRouteComponent } from "@tanstack/react-router";
import { shellRoute } from "~/shell/routes";
import { search } from "~/shell/search";

export const activityRoutes = [
  createRoute({
    getParentRoute: () => shellRoute,
    path: "/activity",
    // `since` and `until`: as a date field writes them, `2026-12-01T06:00`.
    validateSearch: search({ actor: "text", action: "text", target: "text", since: "text", until: "text" }),
    component: lazyRouteComponent(() => import("./Activity"), "Activity"),
  }),
] as const;
