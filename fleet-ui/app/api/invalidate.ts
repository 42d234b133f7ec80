/**
 * Which of the shown queries an event makes stale. Events come in bursts (a device that flaps, a wave of thousands): they are
 * gathered, and each query is read again at most once in `GATHER_MS`.
 */

import type { Query, QueryClient } from "@tanstack/react-query";
import type { LiveEvent } from "./live";

const GATHER_MS = 1_500;

/** Paths whose answers change with an event of this noun. */
const TOUCHES: Record<string, readonly string[]> = {
  device: ["/api/v1/devices", "/api/v1/overview"],
  command: ["/api/v1/devices/{device}/commands"],
  deployment: ["/api/v1/deployments", "/api/v1/overview"],
  rollout: ["/api/v1/rollouts", "/api/v1/deployments", "/api/v1/overview"],
  model: ["/api/v1/models", "/api/v1/overview"],
  trust: ["/api/v1/trust"],
  agent_release: ["/api/v1/agent-releases"],
};

/** Nouns whose events are about the one resource that they name. */
const EXACT = new Set(["device", "rollout", "model"]);

type Key = readonly [method: string, path: string, init?: { params?: { path?: Record<string, unknown> } }];

/** Whether the query at `key` shows what `event` is about. */
export function touches(event: Pick<LiveEvent, "kind" | "resource">, key: Key): boolean {
  const [, path, init] = key;
  if (event.kind === "reset") return true;
  const noun = event.kind.split(".")[0] ?? "";
  const prefixes = TOUCHES[noun];
  if (!prefixes?.some((prefix) => path === prefix || path.startsWith(`${prefix}/`))) return false;
  const named = Object.values(init?.params?.path ?? {});
  if (named.length === 0 || !EXACT.has(noun)) return true;
  return named.some((value) => String(value) === event.resource) || !path.startsWith(TOUCHES[noun]![0]!);
}

/** Takes events, and has the queries that they touch read again. */
export class Invalidator {
  #waiting: LiveEvent[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly queries: QueryClient) {}

  add = (event: LiveEvent): void => {
    // One of each is enough, so that the list stays as short as what is shown is varied.
    if (!this.#waiting.some((other) => other.kind === event.kind && other.resource === event.resource)) this.#waiting.push(event);
    this.#timer ??= setTimeout(this.#flush, GATHER_MS);
  };

  #flush = (): void => {
    const events = this.#waiting;
    this.#waiting = [];
    this.#timer = undefined;
    const predicate = (query: Query) => events.some((event) => touches(event, query.queryKey as unknown as Key));
    void this.queries.invalidateQueries({ predicate });
  };
}
