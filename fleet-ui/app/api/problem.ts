/** Errors of the API as problem details (RFC 9457), and what the page says about them. */

import type { components } from "./schema";
import { text } from "~/text";

export type Problem = components["schemas"]["Problem"];

/** An answer that is not what was asked for. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly problem: Partial<Problem>,
    /** Seconds after which it may be tried again. */
    readonly retryAfter?: number,
  ) {
    super(problem.detail || problem.title || text.errors.status(status));
    this.name = "ApiError";
  }

  /** What the person can do now. */
  get advice(): string {
    return this.problem.hint || text.errors.advice(this.status, this.retryAfter);
  }
}

/** Nobody answered: the network or the control plane is gone. */
export class Unreachable extends Error {
  constructor() {
    super(text.errors.unreachable);
    this.name = "Unreachable";
  }
}

export function adviceOf(error: unknown): string {
  if (error instanceof ApiError) return error.advice;
  if (error instanceof Unreachable) return text.errors.unreachableAdvice;
  return text.errors.unexpectedAdvice;
}

export function isStatus(error: unknown, status: number): boolean {
  return error instanceof ApiError && error.status === status;
}
