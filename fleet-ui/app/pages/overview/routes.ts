import { createRoute, lazyRouteComponent } from "@tanstack/react-router";
import { shellRoute } from "~/shell/routes";

export const overviewRoutes = [
  createRoute({ getParentRoute: () => shellRoute, path: "/", component: lazyRouteComponent(() => import("./Overview"), "Overview") }),
] as const;
