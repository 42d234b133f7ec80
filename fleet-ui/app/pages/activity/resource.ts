/** Where the thing that an entry is about can be looked at, and how whoever did it is called. Pure. */
import type { Schemas } from "~/api/client";

type Entry = Pick<Schemas["ActivityView"], "action" | "target">;

/** Nouns of actions whose things have a tab of the settings, and no page of their own. */
const SETTINGS: Readonly<Record<string, string>> = {
  key: "keys", session: "keys", login_link: "keys", token: "tokens", tenant: "tenants", trust: "trust", agent_release: "agents", agent_settings: "agents",
};

export type Resource =
  | { readonly kind: "device" | "rollout" | "model"; readonly id: string }
  | { readonly kind: "settings"; readonly tab: string };

/** `undefined`: there is no page of it. */
export function resourceOf({ action, target }: Entry): Resource | undefined {
  const noun = action.split(".")[0] ?? "";
  if (target.startsWith("dev_")) return { kind: "device", id: target };
  if (noun === "rollout" || noun === "deployment") return { kind: "rollout", id: target };
  if (noun === "model") return { kind: "model", id: target.split("@")[0]! };
  return Object.hasOwn(SETTINGS, noun) ? { kind: "settings", tab: SETTINGS[noun]! } : undefined;
}

const SHOWN = 6;

/** `key:ci` where the key's name is known, else the end of its id; `system` and people at a site are called as they are. */
export function actorName(actor: string, names: ReadonlyMap<string, string> = new Map()): string {
  const at = actor.indexOf(":");
  const [kind, id] = at < 0 ? [actor, ""] : [actor.slice(0, at), actor.slice(at + 1)];
  const name = names.get(id);
  if (name !== undefined) return `${kind}:${name}`;
  return id.length > 16 ? `${kind}:…${id.slice(-SHOWN)}` : actor;
}
