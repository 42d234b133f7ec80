import { describe, expect, it } from "vitest";
import { failure } from "./client";
import { adviceOf, ApiError, isStatus, Unreachable } from "./problem";

const answer = (status: number, body: string, headers: Record<string, string> = {}) => failure(new Response(body, { status, headers }));

describe("an answer that is no success", () => {
  it("says what the control plane said, and its hint as advice", async () => {
    const error = await answer(422, JSON.stringify({ detail: "no such label", hint: "use a-z", field: "labels" }), { "content-type": "application/problem+json" });
    expect([error.message, error.advice, error.problem.field]).toEqual(["no such label", "use a-z", "labels"]);
  });
  it("has words of its own where there are none: a proxy's page, or JSON cut short", async () => {
    const page = await answer(502, "<html>Bad gateway</html>", { "content-type": "text/html" });
    expect(page.message).toBe("The control plane does not answer");
    const cut = await answer(503, '{"detail": "x', { "content-type": "application/problem+json" });
    expect(cut.message).toBe("The control plane is busy");
  });
  it("says when to come back", async () => {
    const error = await answer(429, "", { "retry-after": "7" });
    expect([error.retryAfter, error.advice]).toEqual([7, "Try again in 7 s."]);
    expect((await answer(429, "", { "retry-after": "tomorrow" })).retryAfter).toBeUndefined();
  });
});

it.each([401, 403, 404, 409, 412, 422, 429, 500])("%d has advice", (status) => expect(adviceOf(new ApiError(status, {})).length).toBeGreaterThan(20));

it("tells errors apart", () => {
  expect(isStatus(new ApiError(404, {}), 404)).toBe(true);
  expect(isStatus(new ApiError(404, {}), 403)).toBe(false);
  expect(isStatus(new Unreachable(), 404)).toBe(false);
  expect(adviceOf(new Unreachable())).not.toBe(adviceOf(new Error("x")));
});
