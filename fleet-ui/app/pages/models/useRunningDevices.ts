/** Devices that are online and have a version of a model: those of the deployments that hold. */
import { useQuery } from "@tanstack/react-query";
import { http } from "~/api/client";

export interface RunningDevice {
  readonly id: string;
  readonly name: string;
  /** The one that answers there. */
  readonly version: number;
}

/** More than a person picks from. */
const MOST = 500;

export function useRunningDevices(model: string) {
  return useQuery({
    queryKey: ["get", "/api/v1/deployments", { running: model }],
    queryFn: async ({ signal }): Promise<RunningDevice[]> => {
      const { data } = await http.GET("/api/v1/deployments", { params: { query: { subject: model, limit: 50 } }, signal });
      const found = new Map<string, RunningDevice>();
      for (const { id } of data!.items.filter(({ state }) => state === "active")) {
        const members = await http.GET("/api/v1/deployments/{id}/devices", { params: { path: { id }, query: { limit: MOST } }, signal });
        for (const member of members.data!.items) if (member.online && member.active_version != null) found.set(member.device, { id: member.device, name: member.name || member.device, version: Number(member.active_version) });
      }
      return [...found.values()].sort((a, b) => a.name.localeCompare(b.name)).slice(0, MOST);
    },
  });
}
