import { createRoute, lazyRouteComponent } from "@tanstack/react-router";
import { shellRoute } from "~/shell/routes";
import { search } from "~/shell/search";

export const STATES = ["online", "offline", "revoked"] as const;
export const SORTS = ["name", "newest", "last_seen"] as const;
export const TABS = ["vitals", "models", "twin", "updates", "commands", "logs", "activity"] as const;
export const RANGES = ["15m", "1h", "6h", "24h", "7d", "30d"] as const;
export const LEVELS = ["error", "warn", "info", "debug", "trace"] as const;
/** What is done to a device, as the activity names it. */
export const ACTIONS = ["device.enrol", "device.edit", "device.edit.refuse", "device.rename", "device.command", "device.command.cancel", "device.renew", "device.revoke"] as const;
export const DEVICE_SEARCH = { selector: "text", q: "text", state: STATES, sort: SORTS, view: ["map"] } as const;

const devices = createRoute({
  getParentRoute: () => shellRoute,
  path: "/devices",
  validateSearch: search(DEVICE_SEARCH),
  component: lazyRouteComponent(() => import("./Devices"), "Devices"),
});

const device = createRoute({
  getParentRoute: () => shellRoute,
  path: "/devices/$device",
  // `from` and `to`: seconds since the epoch, of a range that was drawn with the pointer or typed.
  validateSearch: search({ tab: TABS, range: RANGES, from: "text", to: "text", level: LEVELS, action: ACTIONS }),
  component: lazyRouteComponent(() => import("./Device"), "Device"),
});

export const deviceRoutes = [devices, device] as const;
