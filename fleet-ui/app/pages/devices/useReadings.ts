/** A device's measurements over a span of time. While another span is read, what was shown stays. */
import { useQuery } from "@tanstack/react-query";
import { http } from "~/api/client";
import { groups } from "./vitals";

const PATH = "/api/v1/devices/{device}/telemetry";
/** Points of a series: about two per pixel of a chart. */
const POINTS = 600;
/** Metrics that the control plane answers at once. */
const METRICS = 16;
/** A span that moves on with the clock is not looked at again. */
const KEPT_MS = 10_000;

/** The points of each of `metrics` by its name; `from` and `to` are seconds since the epoch. */
export function useReadings(device: string, metrics: readonly string[], from: number, to: number) {
  return useQuery({
    queryKey: ["get", PATH, { device, metrics, from, to }] as const,
    queryFn: async ({ signal }) => {
      const query = { from: from * 1_000_000, to: to * 1_000_000, points: POINTS };
      const answers = await Promise.all(groups(metrics, METRICS).map((some) => http.GET(PATH, { params: { path: { device }, query: { ...query, metric: some.join(",") } }, signal })));
      return new Map(answers.flatMap(({ data }) => data!.series).map((one) => [one.metric, one.points.map(({ at, avg }) => ({ at, value: avg }))]));
    },
    enabled: metrics.length > 0,
    placeholderData: (before, query) => (query?.queryKey[2].device === device ? before : undefined),
    gcTime: KEPT_MS,
  });
}
