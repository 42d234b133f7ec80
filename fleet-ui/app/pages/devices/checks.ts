/** What a `probe` command brings: one row for each thing that the device looked at. Pure. */
import type { Tone } from "~/ui/StateBadge";

export const LEVELS = ["ok", "warn", "fail"] as const;

export interface Check {
  readonly check: string;
  readonly level: (typeof LEVELS)[number];
  readonly detail: string;
  readonly advice: string;
}

export const LEVEL_TONES: Record<Check["level"], Tone> = { ok: "good", warn: "warn", fail: "bad" };

const str = (value: unknown): string => (typeof value === "string" ? value : "");

/** Absent where it is no such list. What is wrong comes first, in the device's own order. */
export function readChecks(json: unknown): Check[] | undefined {
  if (!Array.isArray(json)) return undefined;
  const checks = json.flatMap((row: unknown) => {
    const { check, level, detail, advice } = (row ?? {}) as Record<string, unknown>;
    const known = LEVELS.find((one) => one === level);
    return known && typeof check === "string" ? [{ check, level: known, detail: str(detail), advice: str(advice) }] : [];
  });
  return checks.sort((a, b) => LEVELS.indexOf(b.level) - LEVELS.indexOf(a.level));
}
