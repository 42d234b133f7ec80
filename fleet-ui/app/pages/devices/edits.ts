/** Who changed what of a device's twin, from the activity; edits at the site while it was offline included. Pure. */
import type { Schemas } from "~/api/client";

export interface Change {
  readonly id: string;
  readonly at: number;
  readonly actor: string;
  /** Made at the device's site. */
  readonly site: boolean;
  /** `labels/site`. */
  readonly path: string;
  /** `undefined`: removed. */
  readonly value: string | undefined;
}

const ROOMS: Readonly<Record<string, string>> = { label: "labels", note: "notes", model: "models", config: "config" };

/** Single changes, in the order of the entries. What is not as expected is left out. */
export function changesOf(entries: readonly Schemas["ActivityView"][]): Change[] {
  return entries.flatMap(({ id, at, actor, action, detail }) => {
    const edits = (detail as { edits?: unknown } | null)?.edits;
    if (action !== "device.edit" || !Array.isArray(edits)) return [];
    return edits.flatMap((edit: unknown, index): Change[] => {
      const { op, key, name, value, model } = (edit ?? {}) as Record<string, unknown>;
      const [, verb, what = ""] = /^(set|remove)_(label|note|model|config)$/.exec(String(op)) ?? [];
      const field = typeof key === "string" ? key : name;
      if (!verb || typeof field !== "string") return [];
      const said = what === "model" ? (model as { version?: unknown } | undefined)?.version : value;
      const shown = typeof said === "string" ? said : JSON.stringify(said);
      return [{ id: `${id}:${index}`, at, actor, site: actor.startsWith("site:"), path: `${ROOMS[what]}/${field}`, value: verb === "set" ? shown : undefined }];
    });
  });
}
