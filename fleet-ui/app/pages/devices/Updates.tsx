/** What was rolled out and deployed to a device, newest first, and what became of it there. */
import { Text } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { api, http } from "~/api/client";
import { text } from "~/text";
import { Name } from "~/ui/Name";
import { PAGE, paging } from "~/ui/paging";
import { ResourceTable, type ResourceColumn } from "~/ui/ResourceTable";
import { Empty, Section } from "~/ui/Section";
import { StateBadge } from "~/ui/StateBadge";
import { TimeAgo } from "~/ui/TimeAgo";
import { holds, standing, type Update } from "./updates";

const words = text.devices;

const moment = (at: number | null | undefined) => (at == null ? undefined : new Date(at / 1_000).toISOString());

const columns: readonly ResourceColumn<Update>[] = [
  { id: "what", header: text.rollouts.subject, width: "minmax(7rem, 2fr)", value: ({ subject, version }) => `${subject}@${version}`, cell: (update) => <What update={update} /> },
  {
    id: "state", header: words.state, width: "9.5rem", value: (update) => `${standing(update).word}${holds(update) ? `, ${words.holdsHere}` : ""}`,
    cell: (update) => {
      const { tone, word } = standing(update);
      return <><StateBadge tone={tone}>{word}</StateBadge>{holds(update) && <span className="dim"> · {words.holdsHere}</span>}</>;
    },
  },
  { id: "wave", header: text.rollouts.waveShort, width: "3rem", end: true, wide: true, value: ({ wave }) => wave, cell: ({ wave }) => wave ?? text.ui.nothing },
  { id: "reason", header: text.rollouts.reason, width: "minmax(5rem, 3fr)", wide: true, value: ({ reason }) => reason, cell: ({ reason }) => <Name>{reason ?? ""}</Name> },
  { id: "updated", header: text.rollouts.updated, width: "6.5rem", end: true, value: ({ updated_at }) => moment(updated_at), cell: ({ updated_at }) => <TimeAgo at={updated_at} /> },
];

export function Updates({ id }: { id: string }) {
  const updates = api.useInfiniteQuery("get", "/api/v1/devices/{device}/updates", { params: { path: { device: id }, query: { limit: PAGE } } }, paging);
  return (
    <Section title={words.tabs.updates}>
      <Text size="sm" className="dim" mb="sm">{words.updatesLead}</Text>
      <ResourceTable label={words.tabs.updates} pages={updates} columns={columns} rowId={(update) => update.id} read={(query) => http.GET("/api/v1/devices/{device}/updates", { params: { path: { device: id }, query } })} empty={<Empty title={words.noUpdates} lead={words.noUpdatesLead} command={`aidos device updates ${id}`} />} height="480px" />
    </Section>
  );
}

function What({ update: { id, kind, subject, version } }: { update: Update }) {
  const shown = <Name>{`${subject}@${version}`}</Name>;
  if (kind === "rollout") return <Link className="main" to="/rollouts/$rollout" params={{ rollout: id }}>{shown}</Link>;
  return subject.startsWith("agent.") ? shown : <Link className="main" to="/models/$model" params={{ model: subject }}>{shown}</Link>;
}
