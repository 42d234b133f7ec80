/** Entries of the activity as a list of sentences: when, who, what, to what. */
import type { Schemas } from "~/api/client";
import { Name } from "~/ui/Name";
import { RowLink } from "~/ui/RowLink";
import { TimeAgo } from "~/ui/TimeAgo";
import { actorName, resourceOf } from "./resource";
import { useActorNames } from "./useActorNames";

export type Entry = Schemas["ActivityView"];
export { actorName };

/** What an entry is about, with a link to its page where it has one. */
export function Target({ entry }: { entry: Entry }) {
  const resource = resourceOf(entry);
  const shown = <Name mono>{entry.target}</Name>;
  switch (resource?.kind) {
    case "device": return <RowLink to="/devices/$device" id={resource.id}>{shown}</RowLink>;
    case "rollout": return <RowLink to="/rollouts/$rollout" id={resource.id}>{shown}</RowLink>;
    case "model": return <RowLink to="/models/$model" id={resource.id}>{shown}</RowLink>;
    case "settings": return <RowLink to="/settings/$tab" id={resource.tab}>{shown}</RowLink>;
    default: return shown;
  }
}

/** Whoever did it; a device has a page. */
export function Actor({ actor, names }: { actor: string; names: ReadonlyMap<string, string> }) {
  const shown = <bdi title={actor.slice(0, 300)}>{actorName(actor, names).slice(0, 80)}</bdi>;
  const device = actor.startsWith("device:") ? actor.slice("device:".length) : undefined;
  return device ? <RowLink to="/devices/$device" id={device}>{shown}</RowLink> : shown;
}

export function Events({ items }: { items: readonly Entry[] }) {
  const names = useActorNames();
  return (
    <ul className="events">
      {items.map((entry) => (
        <li key={entry.id}>
          <TimeAgo at={entry.at} />
          <span className="wrap">
            <strong>{entry.action}</strong> <Target entry={entry} /> <span className="dim"><Actor actor={entry.actor} names={names} /></span>
            {reasonOf(entry) && <span className="dim"> — <bdi>{reasonOf(entry)}</bdi></span>}
          </span>
        </li>
      ))}
    </ul>
  );
}

function reasonOf(entry: Entry): string | undefined {
  const detail = entry.detail as { reason?: unknown } | null | undefined;
  return typeof detail?.reason === "string" && detail.reason ? detail.reason.slice(0, 500) : undefined;
}
