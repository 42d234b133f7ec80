import { createRoute, lazyRouteComponent } from "@tanstack/react-router";
import { shellRoute } from "~/shell/routes";
import { search } from "~/shell/search";
import { OUTCOMES } from "./cells";
import { PLAN_SEARCH } from "./planSearch";

export const PHASES = ["running", "paused", "finished", "aborted", "superseded"] as const;
export const PRESETS = ["careful", "quick", "all", "custom"] as const;

const rollouts = createRoute({
  getParentRoute: () => shellRoute,
  path: "/rollouts",
  validateSearch: search({ subject: "text", phase: PHASES }),
  component: lazyRouteComponent(() => import("./Rollouts"), "Rollouts"),
});

const create = createRoute({
  getParentRoute: () => shellRoute,
  path: "/rollouts/new",
  validateSearch: search({ subject: "text", to: "text", how: PRESETS, ...PLAN_SEARCH }),
  component: lazyRouteComponent(() => import("./NewRollout"), "NewRollout"),
});

const rollout = createRoute({
  getParentRoute: () => shellRoute,
  path: "/rollouts/$rollout",
  validateSearch: search({ outcome: OUTCOMES, wave: "text" }),
  component: lazyRouteComponent(() => import("./Rollout"), "Rollout"),
});

export const rolloutRoutes = [rollouts, create, rollout] as const;
