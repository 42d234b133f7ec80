/** The newest reading of each of a device's metrics, and what its telemetry lost. */
import { api } from "~/api/client";

/** As telemetry comes without an event. */
const LOOK_MS = 10_000;

export function useTelemetry(device: string) {
  return api.useQuery("get", "/api/v1/devices/{device}/telemetry/metrics", { params: { path: { device } } }, { refetchInterval: LOOK_MS });
}
