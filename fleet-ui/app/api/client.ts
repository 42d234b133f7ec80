/**
 * The API's client, generated from the OpenAPI document. Every page goes through it; nobody else calls `fetch`.
 *
 * A request that fails throws `ApiError` or `Unreachable`, so that a query's `error` is always one of the two.
 */

import createFetchClient, { type Middleware } from "openapi-fetch";
import createClient from "openapi-react-query";
import { ApiError, Unreachable, type Problem } from "./problem";
import type { components, paths } from "./schema";
import { session } from "./session";

export type Schemas = components["schemas"];

const SAFE = new Set(["GET", "HEAD", "OPTIONS"]);

const middleware: Middleware = {
  onRequest({ request }) {
    const csrf = session.csrf();
    if (csrf && !SAFE.has(request.method)) request.headers.set("x-csrf-token", csrf);
    return request;
  },
  async onResponse({ response }) {
    if (response.ok) return response;
    if (response.status === 401) session.ended();
    throw await failure(response);
  },
  onError() {
    return new Unreachable();
  },
};

/** What an answer that is not a success says. */
export async function failure(response: Response): Promise<ApiError> {
  const isProblem = response.headers.get("content-type")?.includes("json");
  const problem: Partial<Problem> = isProblem ? await response.json().catch(() => ({})) : {};
  const retryAfter = Number(response.headers.get("retry-after"));
  return new ApiError(response.status, problem, retryAfter > 0 ? retryAfter : undefined);
}

/** For single requests: actions and exports. */
export const http = createFetchClient<paths>({ baseUrl: "/" });
http.use(middleware);

/** For queries and mutations of components. */
export const api = createClient(http);
