/** Puts the routes of all pages together. A new resource is one line here. */
import { createRouter } from "@tanstack/react-router";
import { activityRoutes } from "./pages/activity/routes";
import { deviceRoutes } from "./pages/devices/routes";
import { enrolRoutes } from "./pages/enrol/routes";
import { modelRoutes } from "./pages/models/routes";
import { overviewRoutes } from "./pages/overview/routes";
import { rolloutRoutes } from "./pages/rollouts/routes";
import { sessionRoutes } from "./pages/session/routes";
import { settingsRoutes } from "./pages/settings/routes";
import { RouteError } from "./shell/RouteError";
import { rootRoute, shellRoute } from "./shell/routes";

const routeTree = rootRoute.addChildren([
  ...sessionRoutes,
  shellRoute.addChildren([...overviewRoutes, ...enrolRoutes, ...deviceRoutes, ...rolloutRoutes, ...modelRoutes, ...activityRoutes, ...settingsRoutes]),
]);

export const router = createRouter({ routeTree, defaultErrorComponent: RouteError, defaultPreload: "intent", scrollRestoration: true });

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}
