/**
 * Which part of a rollout's request the control plane does not take, and where in it. Pure.
 *
 * It names the part (`plan.gates[0]`) and says what it has read, and below that a caret at the position and the reason.
 */
import type { Problem } from "~/api/problem";

export interface Objection {
  /** `gates`, `waves`, `window`, `selector`, …; empty where it is about the whole. */
  readonly field: string;
  /** What is wrong, in one line. */
  readonly reason: string;
  /** The text that is wrong, and under it the caret at the place. */
  readonly excerpt?: string;
}

export function objectionOf({ field: place = "", detail = "" }: Partial<Problem>): Objection {
  const field = place.replace(/^.*\./, "").replace(/\[\d+\]$/, "");
  const lines = detail.split("\n");
  const caret = lines.at(-1) ?? "";
  const at = caret.search(/\S/);
  if (lines.length < 2 || caret[at] !== "^") return { field, reason: detail };
  return { field, reason: caret.slice(at + 1).trim(), excerpt: `${lines.at(-2)}\n${" ".repeat(at)}^` };
}
