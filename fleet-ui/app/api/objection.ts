/**
 * Which part of a request the control plane does not take, and where in it, so that a form can say it at the field. Pure.
 *
 * It names the part (`plan.gates[0]`) and says what it has read, and below that a caret at the position and the reason.
 */
import { ApiError, type Problem } from "./problem";

export interface Objection {
  /** `gates`, `waves`, `window`, `selector`, …; empty where it is about the whole. */
  readonly field: string;
  /** What is wrong, in one line. */
  readonly reason: string;
  /** The text that is wrong, and under it the caret at the place. */
  readonly excerpt?: string;
}

/** Parts that hold others, of which the form shows the inner ones. */
const OUTER = new Set(["plan", "constraints"]);
/** The types that the control plane expects, as people say it. */
const TYPES: Readonly<Record<string, string>> = {
  u8: "a whole number from 0 to 255", u32: "a whole number from 0 to 4294967295", u64: "a whole number from 0", i32: "a whole number", i64: "a whole number", f32: "a number", f64: "a number",
};

const fieldOf = (path: string) => path.split(/[.[]/).find((part) => !OUTER.has(part)) ?? "";

export function objectionOf(problem: Partial<Problem>): Objection {
  const [path, detail] = [problem.field ?? "", problem.detail ?? ""];
  const field = path === "body" ? "" : fieldOf(path);
  const lines = detail.split("\n");
  const caret = lines.at(-1) ?? "";
  const place = caret.search(/\S/);
  if (lines.length < 2 || caret[place] !== "^") return { field, reason: detail.replace(/\bexpected ([uif]\d+)\b/, (all, type: string) => (TYPES[type] ? `expected ${TYPES[type]}` : all)) };
  return { field, reason: caret.slice(place + 1).trim(), excerpt: `${lines.at(-2)}\n${" ".repeat(place)}^` };
}

/** What an error objects to in what was sent, where it does. */
export const objectionIn = (error: unknown): Objection | undefined =>
  error instanceof ApiError && (error.status === 422 || error.status === 400) && error.problem.detail ? objectionOf(error.problem) : undefined;
