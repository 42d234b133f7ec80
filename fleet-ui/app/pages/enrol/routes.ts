import { createRoute, lazyRouteComponent } from "@tanstack/react-router";
import { shellRoute } from "~/shell/routes";

export const enrolRoutes = [
  createRoute({ getParentRoute: () => shellRoute, path: "/devices/add", component: lazyRouteComponent(() => import("./Enrol"), "Enrol") }),
] as const;
