/**
 * Which part of a rollout's request the control plane does not take, and where in it. Pure.
 *
 * It names the part in front of what it says: `plan.gates[0]: p95<1.2y`, and below that a caret at the position and the reason.
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

const PREFIX = "Failed to deserialize the JSON body into the target type: ";
/** Where in the JSON it was, which the person did not write. */
const SUFFIX = / at line \d+ column \d+$/;

export function objectionOf(problem: Partial<Problem>): Objection {
  const detail = (problem.detail ?? "").replace(PREFIX, "").replace(SUFFIX, "");
  const named = /^(?:plan\.)?(?:constraints\.)?([a-z_]+)(?:\[\d+\])?: /.exec(detail);
  const inBody = problem.field === "body" || !problem.field;
  const field = inBody ? named?.[1] ?? "" : problem.field!.replace(/^.*\./, "").replace(/\[\d+\]$/, "");
  const said = inBody && named ? detail.slice(named[0].length) : detail;
  const lines = said.split("\n");
  const caret = lines.at(-1) ?? "";
  const place = caret.search(/\S/);
  if (lines.length < 2 || caret[place] !== "^") return { field, reason: said };
  return { field, reason: caret.slice(place + 1).trim(), excerpt: `${lines.at(-2)}\n${" ".repeat(place)}^` };
}
