/**
 * The one connection per tab over which the control plane tells what happens (`GET /api/v1/events`).
 *
 * It resumes where it was cut off by `Last-Event-ID`, comes back with full-jitter backoff, and takes a silence of more than two
 * heartbeats for the end. What an event means for what is shown is `invalidate.ts`.
 */

import { createParser } from "eventsource-parser";
import { ApiError, Unreachable } from "./problem";
import { failure, type Schemas } from "./client";
import { session } from "./session";

export type LiveEvent = Schemas["EventView"];

export type LinkState =
  | { kind: "connecting" }
  | { kind: "live" }
  /** Nobody answers since `since` (ms); what is shown is as of then. */
  | { kind: "lost"; since: number; retryAt: number };

/** The control plane sends a heartbeat each 15 s. */
const SILENCE_MS = 40_000;
const BASE_MS = 1_000;
const CAP_MS = 30_000;

/** How long to wait before the try after `failures` in a row, in ms: anything up to a doubling bound. */
export function backoff(failures: number, random: () => number = Math.random): number {
  return BASE_MS / 2 + random() * Math.min(CAP_MS, BASE_MS * 2 ** Math.min(failures, 10));
}

type Listener = () => void;

export class Live {
  #state: LinkState = { kind: "connecting" };
  #listeners = new Set<Listener>();
  #stop: AbortController | undefined;
  #lastId: string | undefined;
  #wake: (() => void) | undefined;

  constructor(private readonly onEvent: (event: LiveEvent) => void) {}

  get = (): LinkState => this.#state;

  subscribe = (listener: Listener): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  start(): void {
    if (this.#stop) return;
    this.#stop = new AbortController();
    void this.#run(this.#stop.signal);
  }

  stop(): void {
    this.#stop?.abort();
    this.#stop = undefined;
    this.#lastId = undefined;
  }

  /** Tries now instead of at the time that was told. */
  retry = (): void => this.#wake?.();

  async #run(stop: AbortSignal): Promise<void> {
    let failures = 0;
    while (!stop.aborted) {
      let retryAfter = 0;
      try {
        await this.#read(stop, () => {
          failures = 0;
        });
      } catch (error) {
        if (stop.aborted) return;
        if (error instanceof ApiError && error.status === 401) return session.ended();
        if (error instanceof ApiError) retryAfter = (error.retryAfter ?? 0) * 1_000;
      }
      if (stop.aborted) return;
      const wait = Math.max(backoff(failures++), retryAfter);
      const since = this.#state.kind === "lost" ? this.#state.since : Date.now();
      this.#set({ kind: "lost", since, retryAt: Date.now() + wait });
      await this.#pause(wait, stop);
    }
  }

  /** Reads one connection to its end, which always throws. */
  async #read(stop: AbortSignal, opened: () => void): Promise<never> {
    const silence = new AbortController();
    let timer = setTimeout(() => silence.abort(), SILENCE_MS);
    try {
      const headers: Record<string, string> = { accept: "text/event-stream" };
      if (this.#lastId) headers["last-event-id"] = this.#lastId;
      const signal = AbortSignal.any([stop, silence.signal]);
      const response = await fetch("/api/v1/events", { headers, signal });
      if (!response.ok) throw await failure(response);
      if (!response.body) throw new Unreachable();
      opened();
      // Back without a place to resume from: whatever happened meanwhile was not told.
      if (this.#state.kind === "lost" && !this.#lastId) this.onEvent({ kind: "reset", resource: "", at: 0, data: null });
      this.#set({ kind: "live" });
      const parser = createParser({
        onEvent: ({ id, data }) => {
          if (id) this.#lastId = id;
          this.onEvent(JSON.parse(data) as LiveEvent);
        },
      });
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) throw new Unreachable();
        clearTimeout(timer);
        timer = setTimeout(() => silence.abort(), SILENCE_MS);
        parser.feed(value);
      }
    } finally {
      clearTimeout(timer);
    }
  }

  #pause(ms: number, stop: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        stop.removeEventListener("abort", done);
        this.#wake = undefined;
        resolve();
      };
      const timer = setTimeout(done, ms);
      stop.addEventListener("abort", done);
      this.#wake = done;
    });
  }

  #set(state: LinkState): void {
    this.#state = state;
    for (const listener of this.#listeners) listener();
  }
}
