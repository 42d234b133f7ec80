/** Settings of a device as fields that people type: each value is JSON, and what is no JSON is taken for a text. Pure. */
import type { Fields } from "~/ui/merge";

export interface Row {
  readonly id: number;
  readonly key: string;
  readonly value: string;
}

export const rowsOf = (fields: Fields): Row[] => Object.entries(fields).map(([key, value], id) => ({ id, key, value }));

/** Later rows win over earlier ones of the same key. */
export const fieldsOf = (rows: readonly Row[]): Fields => Object.fromEntries(rows.filter(({ key }) => key.trim()).map(({ key, value }) => [key.trim(), value]));

/** The key that stands in two rows, of which one would be lost. */
export function twice(rows: readonly Row[]): string | undefined {
  const keys = rows.map(({ key }) => key.trim()).filter(Boolean);
  return keys.find((key, index) => keys.indexOf(key) !== index);
}

export const settingsToFields = (settings: Readonly<Record<string, unknown>>): Fields =>
  Object.fromEntries(Object.entries(settings).map(([key, value]) => [key, typeof value === "string" && !isJson(value) ? value : JSON.stringify(value)]));

export const valueOf = (typed: string): unknown => (isJson(typed) ? (JSON.parse(typed) as unknown) : typed);

function isJson(typed: string): boolean {
  try {
    JSON.parse(typed);
    return true;
  } catch {
    return false;
  }
}
