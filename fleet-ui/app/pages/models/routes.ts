import { createRoute, lazyRouteComponent } from "@tanstack/react-router";
import { shellRoute } from "~/shell/routes";
import { search } from "~/shell/search";

export const TABS = ["versions", "card", "devices", "measured", "try"] as const;

/** How far back measurements are shown. */
export const RANGES = ["1h", "6h", "24h", "7d", "30d"] as const;

const models = createRoute({
  getParentRoute: () => shellRoute,
  path: "/models",
  validateSearch: search({ q: "text" }),
  component: lazyRouteComponent(() => import("./Models"), "Models"),
});

const model = createRoute({
  getParentRoute: () => shellRoute,
  path: "/models/$model",
  validateSearch: search({ tab: TABS, version: "text", device: "text", deployment: "text", range: RANGES }),
  component: lazyRouteComponent(() => import("./Model"), "Model"),
});

export const modelRoutes = [models, model] as const;
