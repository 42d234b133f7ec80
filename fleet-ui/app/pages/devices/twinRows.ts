/** A device's twin as rows: what is wanted beside what is reported, and who wrote it last. Pure. */
import type { Schemas } from "~/api/client";
import type { Change } from "./edits";

export interface TwinRow {
  readonly path: string;
  readonly wanted: string | undefined;
  readonly reported: string | undefined;
  /** Why the two differ; absent where they do not. */
  readonly reason: string | undefined;
  /** Who wrote it last, where the activity still knows. */
  readonly last: Change | undefined;
}

type View = Pick<Schemas["TwinView"], "intent" | "status" | "differences">;

/** What differs first, then by path. */
export function twinRows({ intent, status, differences }: View, changes: readonly Change[]): TwinRow[] {
  const rows = new Map<string, TwinRow>();
  // Newest first: the first one of a path is the last one that wrote it.
  const last = (path: string) => changes.find((change) => change.path === path);
  const applied = !differences.some(({ path }) => path === "intent");
  const put = (path: string, wanted: string, reported: string | undefined) => rows.set(path, { path, wanted, reported, reason: undefined, last: last(path) });
  for (const [name, model] of Object.entries(intent.models)) {
    const there = status[`models/${name}`] as { active_version?: unknown } | undefined;
    put(`models/${name}`, String(model?.version), there?.active_version === undefined ? undefined : String(there.active_version));
  }
  // Labels, notes and settings hold as soon as the device has applied the document that they stand in.
  for (const room of ["labels", "notes", "config"] as const) {
    for (const [key, value] of Object.entries(intent[room])) {
      const shown = typeof value === "string" ? value : JSON.stringify(value);
      put(`${room}/${key}`, shown, applied ? shown : undefined);
    }
  }
  for (const { path, desired, reported, reason } of differences) {
    rows.set(path, { path, wanted: desired ?? undefined, reported: reported ?? undefined, reason, last: last(path) });
  }
  return [...rows.values()].sort((a, b) => Number(b.reason !== undefined) - Number(a.reason !== undefined) || a.path.localeCompare(b.path));
}

/** A status as lines of `key: value`, so that it reads like a list and not like a program. */
export function statusLines(value: unknown): readonly (readonly [key: string, value: string])[] {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return [["", short(value)]];
  return Object.entries(value).map(([key, inner]) => [key, key.endsWith("_us") && typeof inner === "number" && inner > 0 ? new Date(inner / 1_000).toISOString() : short(inner)]);
}

const LONGEST = 600;
const short = (value: unknown): string => (typeof value === "string" ? value : (JSON.stringify(value) ?? "")).slice(0, LONGEST);
