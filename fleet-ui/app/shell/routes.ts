/** The two roots of all routes: everything, and what needs a session. Pages hang their routes under `shellRoute`. */
import { createRootRoute, createRoute, redirect } from "@tanstack/react-router";
import { http } from "~/api/client";
import { isStatus } from "~/api/problem";
import { session } from "~/api/session";
import { RouteError } from "./RouteError";
import { Shell } from "./Shell";

export const rootRoute = createRootRoute({ errorComponent: RouteError });

export const shellRoute = createRoute({
  getParentRoute: () => rootRoute,
  id: "shell",
  component: Shell,
  beforeLoad: async ({ location }) => {
    if (session.get()) return;
    try {
      const { data } = await http.GET("/api/v1/session");
      if (data) session.begun(data);
    } catch (error) {
      if (!isStatus(error, 401)) throw error;
      throw redirect({ to: "/sign-in", search: location.href === "/" ? {} : { from: location.href } } as never);
    }
  },
});
