/** The devices that joined with a token, from the activity. Pure. */
import type { Schemas } from "~/api/client";

export interface Joined {
  readonly device: string;
  readonly name: string;
}

/** The newest first, as the entries are. */
export function joinedWith(token: string, entries: readonly Schemas["ActivityView"][]): Joined[] {
  return entries.flatMap(({ action, target, detail }) => {
    const { token: by, name } = (detail ?? {}) as { token?: unknown; name?: unknown };
    return action === "device.enrol" && by === token ? [{ device: target, name: typeof name === "string" ? name : target }] : [];
  });
}
