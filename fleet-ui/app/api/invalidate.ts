/**
 * Which of the shown queries an event makes stale. Events come in bursts (a device that flaps, a wave of thousands): they are
 * gathered, and each query is read again at most once in `GATHER_MS`; a list of many loaded pages, all of which are read again, and
 * what is marked as `LONG`, at most once in `LONG_MS`.
 */

import type { Query, QueryClient } from "@tanstack/react-query";
import type { LiveEvent } from "./live";

const GATHER_MS = 1_500;
const LONG_MS = 10_000;
const LONG_PAGES = 4;

/** The `meta` of a query whose answer is long. */
export const LONG = { long: true } as const;

/** Paths whose answers change with an event of this noun. */
const TOUCHES: Record<string, readonly string[]> = {
  device: ["/api/v1/devices", "/api/v1/overview"],
  command: ["/api/v1/devices/{device}/commands"],
  deployment: ["/api/v1/deployments", "/api/v1/overview", "/api/v1/devices/{device}/updates"],
  rollout: ["/api/v1/rollouts", "/api/v1/deployments", "/api/v1/overview", "/api/v1/devices/{device}/updates"],
  model: ["/api/v1/models", "/api/v1/overview"],
  trust: ["/api/v1/trust"],
  agent_release: ["/api/v1/agent-releases"],
  activity: ["/api/v1/activity"],
};

/** Nouns whose events are about the one resource that they name. */
const EXACT = new Set(["device", "rollout", "model"]);

const nounOf = ({ kind }: Pick<LiveEvent, "kind">) => kind.split(".")[0] ?? "";

type Key = readonly [method: string, path: string, init?: { params?: { path?: Record<string, unknown> } }];

/** Whether the query at `key` shows what `event` is about. */
export function touches(event: Pick<LiveEvent, "kind" | "resource">, key: Key): boolean {
  const [, path, init] = key;
  if (event.kind === "reset") return true;
  const noun = nounOf(event);
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
  /** Long lists that are read again later, by their hash. */
  readonly #later = new Set<string>();

  constructor(private readonly queries: QueryClient) {}

  add = (event: LiveEvent): void => {
    // One of each is enough, so that the list stays as short as what is shown is varied.
    const exact = EXACT.has(nounOf(event));
    if (!this.#waiting.some((other) => other.kind === event.kind && (!exact || other.resource === event.resource))) this.#waiting.push(event);
    this.#timer ??= setTimeout(this.#flush, GATHER_MS);
  };

  #flush = (): void => {
    const events = this.#waiting;
    this.#waiting = [];
    this.#timer = undefined;
    const touched = (query: Query) => events.some((event) => touches(event, query.queryKey as unknown as Key));
    void this.queries.invalidateQueries({ predicate: (query) => touched(query) && !this.#waits(query) });
  };

  /** Whether a query is to be read again later, which it then is. */
  #waits(query: Query): boolean {
    const pages = (query.state.data as { readonly pages?: readonly unknown[] } | undefined)?.pages?.length ?? 1;
    const left = pages > LONG_PAGES || query.meta?.long === LONG.long ? query.state.dataUpdatedAt + LONG_MS - Date.now() : 0;
    if (left <= 0) return false;
    if (!this.#later.has(query.queryHash)) {
      this.#later.add(query.queryHash);
      setTimeout(() => {
        this.#later.delete(query.queryHash);
        void this.queries.invalidateQueries({ queryKey: query.queryKey, exact: true });
      }, left);
    }
    return true;
  }
}
