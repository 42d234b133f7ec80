/** How answers are kept: shown while they are read anew, and kept when the control plane is gone. */
import { QueryClient } from "@tanstack/react-query";
import { ApiError } from "~/api/problem";

/** Events say when something changes; this is for what they do not tell. */
const STALE_MS = 30_000;
const KEPT_MS = 10 * 60_000;

export const queries = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: STALE_MS,
      gcTime: KEPT_MS,
      networkMode: "always",
      // What was refused stays refused; what did not answer may come back.
      retry: (failures, error) => failures < 2 && !(error instanceof ApiError && error.status < 500 && error.status !== 429),
    },
    mutations: { networkMode: "always" },
  },
});
