/** What is wanted of a device beside what it reports, who changed it, and who wrote at the same time. */
import { Skeleton, Text } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { useMemo } from "react";
import { api, type Schemas } from "~/api/client";
import { actorName } from "~/pages/activity/Events";
import { text } from "~/text";
import { ErrorPanel } from "~/ui/ErrorPanel";
import { Name } from "~/ui/Name";
import { Section } from "~/ui/Section";
import { StateBadge } from "~/ui/StateBadge";
import { TimeAgo } from "~/ui/TimeAgo";
import { changesOf, type Change } from "./edits";
import { statusLines, twinRows } from "./twinRows";

const words = text.devices;
const CHANGES = 30;

export function Twin({ device }: { device: Schemas["DeviceDetail"] }) {
  const twin = api.useQuery("get", "/api/v1/devices/{device}/twin", { params: { path: { device: device.id } } });
  const activity = api.useQuery("get", "/api/v1/activity", { params: { query: { target: device.id, action: "device.edit", limit: 100 } } });
  const changes = useMemo(() => changesOf(activity.data?.items ?? []), [activity.data]);
  if (twin.error && !twin.data) return <ErrorPanel error={twin.error} retry={twin.refetch} />;
  const view = twin.data;
  if (!view) return <Skeleton height={300} />;
  const conflicts = view.intent.conflicts ?? [];
  const pending = device.applied?.pending ?? 0;
  return (
    <div className="stack">
      <Section title={words.intent} aside={<span className="dim nums nowrap">{words.revision} {view.revision}</span>}>
        {pending > 0 && <Text size="sm" mb="sm" role="status"><StateBadge tone="warn">{words.pending(pending)}</StateBadge></Text>}
        {view.differences.length === 0 && <Text size="sm" className="dim" mb="sm">{words.noDifference}</Text>}
        <Wanted view={view} changes={changes} />
      </Section>
      {conflicts.length > 0 && <Conflicts conflicts={conflicts} />}
      <Section title={words.changes} aside={<Link to="/activity" search={{ target: device.id, action: "device.edit" }}>{text.overview.all}</Link>}>
        {activity.error && !activity.data ? <ErrorPanel error={activity.error} retry={activity.refetch} /> : changes.length === 0 ? <Text size="sm" className="dim">{words.noChanges}</Text> : (
          <ul className="events">
            {changes.slice(0, CHANGES).map((change) => (
              <li key={change.id}>
                <TimeAgo at={change.at} />
                <span className="wrap"><span className="mono"><bdi>{change.path}</bdi></span> {change.value === undefined ? <em>{text.ui.removed}</em> : <>→ <Name>{change.value}</Name></>} <Author change={change} /></span>
              </li>
            ))}
          </ul>
        )}
      </Section>
      <Section title={words.status}>
        <dl className="status-grid">
          {Object.entries(view.status).map(([path, value]) => (
            <div key={path}>
              <dt className="mono"><bdi>{path}</bdi></dt>
              <dd className="status-lines">{statusLines(value).map(([key, line]) => <div key={key}>{key && <span className="dim">{key}: </span>}<bdi>{line}</bdi></div>)}</dd>
            </div>
          ))}
        </dl>
      </Section>
    </div>
  );
}

function Wanted({ view, changes }: { view: Schemas["TwinView"]; changes: readonly Change[] }) {
  const rows = useMemo(() => twinRows(view, changes), [view, changes]);
  return (
    <div className="scroll-x" tabIndex={0} role="group" aria-label={words.intent}>
      <table className="plain twin">
        <thead><tr><th>{words.path}</th><th>{words.desired}</th><th>{words.reported}</th><th>{words.changedBy}</th></tr></thead>
        <tbody>
          {rows.map(({ path, wanted, reported, reason, last }) => (
            <tr key={path} className={reason === undefined ? undefined : "differs"}>
              <td className="mono"><bdi>{path}</bdi></td>
              <td>{wanted === undefined ? text.ui.nothing : <Name lines={4}>{wanted}</Name>}</td>
              <td>
                {reported === undefined ? text.ui.nothing : <Name lines={4}>{reported}</Name>}
                {reason !== undefined && <div><StateBadge tone="warn">{words.differs}</StateBadge> <span className="dim"><bdi>{reason}</bdi></span></div>}
              </td>
              <td>{last ? <><Author change={last} /> <span className="dim"><TimeAgo at={last.at} /></span></> : text.ui.nothing}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Author({ change }: { change: Change }) {
  return <span className="dim" title={change.actor}><bdi>{actorName(change.actor)}</bdi>{change.site && ` ${words.atSite}`}</span>;
}

function Conflicts({ conflicts }: { conflicts: readonly Schemas["Conflict"][] }) {
  return (
    <Section title={words.conflicts}>
      <Text size="sm" className="dim" mb="sm">{words.conflictLead}</Text>
      <ul className="refused">
        {conflicts.map((conflict) => (
          <li key={conflict.path}>
            <span className="mono"><bdi>{conflict.path}</bdi></span> {words.won(conflict.winner)}
            {conflict.losing.map((losing, index) => <div key={index} className="dim">{words.lostTo(losing.value.slice(0, 200), losing.author)}</div>)}
          </li>
        ))}
      </ul>
    </Section>
  );
}
