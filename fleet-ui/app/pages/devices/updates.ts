/** How a rollout or deployment stands on one device. Pure. */
import type { Schemas } from "~/api/client";
import { TONES } from "~/pages/rollouts/WaveBar";
import { text } from "~/text";
import type { Tone } from "~/ui/StateBadge";

export type Update = Schemas["DeviceUpdateView"];

export const PROGRESS_TONES: Record<Schemas["Progress"], Tone> = { pending: "quiet", downloading: "busy", ready: "good", failed: "bad", offline: "warn" };

/** What became of the device's place in a rollout; without one, how far it is. */
export function standing({ outcome, progress }: Pick<Update, "outcome" | "progress">): { readonly tone: Tone; readonly word: string } {
  if (outcome) return { tone: TONES[outcome], word: text.rollouts.outcomes[outcome] };
  if (progress) return { tone: PROGRESS_TONES[progress], word: text.models.progresses[progress] };
  return { tone: "quiet", word: text.ui.nothing };
}

/** Whether it is what the device was told last about its subject. */
export const holds = ({ progress }: Pick<Update, "progress">): boolean => progress != null;
