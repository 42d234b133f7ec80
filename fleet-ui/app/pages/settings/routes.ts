import { createRoute, lazyRouteComponent, redirect } from "@tanstack/react-router";
import { shellRoute } from "~/shell/routes";

/** A page of settings is one line here, one in the text and one in `PAGES`. */
export const TABS = ["keys", "tokens", "tenants", "trust", "agents", "about"] as const;
export type Tab = (typeof TABS)[number];

const index = createRoute({
  getParentRoute: () => shellRoute,
  path: "/settings",
  beforeLoad: () => {
    throw redirect({ to: "/settings/$tab", params: { tab: "about" } } as never);
  },
});

const settings = createRoute({
  getParentRoute: () => shellRoute,
  path: "/settings/$tab",
  component: lazyRouteComponent(() => import("./Settings"), "Settings"),
});

export const settingsRoutes = [index, settings] as const;
