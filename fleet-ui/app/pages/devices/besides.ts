/** What stands beside a model's version that answers: the one before it, or the one that is to follow, and its part. Pure. */
import type { Schemas } from "~/api/client";
import { text } from "~/text";

const words = text.devices.roles;

export interface Beside {
  readonly previous?: number;
  readonly candidate?: { readonly version: number; readonly role: string };
}

type Model = Pick<Schemas["DeviceModel"], "desired_version" | "active_version" | "previous_version" | "state">;

/** A device reports one version beside the active one. It is the candidate while it is the one that is wanted and was not given up. */
export function besideOf({ desired_version: desired, active_version: active, previous_version: beside, state }: Model, experiment?: Schemas["Experiment"] | null): Beside {
  if (beside == null) return {};
  const trial = state === "trial";
  const next = beside === desired && (trial || (active !== desired && state !== "failed" && state !== "rolled_back"));
  if (!next) return { previous: beside };
  return { candidate: { version: beside, role: trial ? roleOf(experiment) : words.next } };
}

function roleOf(experiment?: Schemas["Experiment"] | null): string {
  if (!experiment) return words.next;
  return experiment.kind === "shadow" ? words.shadow(experiment.percent) : words.split(experiment.percent, experiment.key);
}
