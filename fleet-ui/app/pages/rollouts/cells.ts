/** Every device of a rollout as a small square: what the control plane sends, and where each square lies. Pure. */

import type { Schemas } from "~/api/client";

/** In the order of the bytes that the control plane sends. */
export const OUTCOMES = ["waiting", "changing", "trying", "running", "succeeded", "failed", "silent"] as const;
export type Outcome = (typeof OUTCOMES)[number];

const ID_BYTES = 16;

export interface Cells {
  readonly waves: readonly number[];
  /** An index into `OUTCOMES` per device. */
  readonly outcomes: Uint8Array;
  /** Sixteen bytes per device. */
  readonly ids: Uint8Array;
}

function bytes(base64: string): Uint8Array {
  const text = atob(base64);
  const found = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at++) found[at] = text.charCodeAt(at);
  return found;
}

/** Reads an answer; `before` has the ids of one that came without. `undefined`: they are needed anew. */
export function read(view: Schemas["RolloutCellsView"], before?: Cells): Cells | undefined {
  const outcomes = bytes(view.outcomes);
  const same = before && before.waves.length === view.waves.length && view.waves.every((devices, wave) => devices === before.waves[wave]);
  const ids = view.devices ? bytes(view.devices) : same ? before.ids : undefined;
  if (!ids || ids.length !== outcomes.length * ID_BYTES) return undefined;
  return { waves: view.waves, outcomes, ids };
}

export function idOf(cells: Cells, index: number): string {
  const id = cells.ids.subarray(index * ID_BYTES, (index + 1) * ID_BYTES);
  return `dev_${Array.from(id, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

/** The wave of a device, from 1. */
export function waveOf(cells: Cells, index: number): number {
  let first = 0;
  for (let wave = 0; wave < cells.waves.length; wave++) {
    first += cells.waves[wave]!;
    if (index < first) return wave + 1;
  }
  return cells.waves.length;
}

export interface Grid {
  /** Pixels from one square to the next. */
  readonly step: number;
  readonly columns: number;
  readonly rows: number;
}

const SMALLEST = 3;
const LARGEST = 18;

/** The largest squares with which `count` of them fit into `width` × `most` pixels; at the smallest they take what height they need. */
export function grid(count: number, width: number, most: number): Grid {
  let step = LARGEST;
  while (step > SMALLEST && Math.ceil(count / Math.max(1, Math.floor(width / step))) * step > most) step--;
  const columns = Math.max(1, Math.floor(width / step));
  return { step, columns, rows: Math.ceil(count / columns) };
}

/** The square at a point, if there is one. */
export function indexAt({ step, columns }: Grid, count: number, x: number, y: number): number | undefined {
  const column = Math.floor(x / step);
  const index = Math.floor(y / step) * columns + column;
  return x >= 0 && y >= 0 && column < columns && index < count ? index : undefined;
}
