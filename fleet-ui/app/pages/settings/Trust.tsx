/** By whose signature devices install, until when that holds, and what to type before it ends. */
import { Alert, Skeleton, Stack } from "@mantine/core";
import { api } from "~/api/client";
import { isStatus } from "~/api/problem";
import { text } from "~/text";
import { actorName } from "~/pages/activity/resource";
import { useActorNames } from "~/pages/activity/useActorNames";
import { useNow } from "~/ui/clock";
import { Command, CopyButton } from "~/ui/CopyButton";
import { ErrorPanel } from "~/ui/ErrorPanel";
import { Name } from "~/ui/Name";
import { Empty, KeyValue, Section } from "~/ui/Section";
import { StateBadge } from "~/ui/StateBadge";
import { TimeAgo } from "~/ui/TimeAgo";

const words = text.settings.trust;
const SOON_MS = 14 * 86_400_000;

/** What a person types to have `role` hold for longer. */
const renewal = (role: string) => (Object.hasOwn(words.renew, role) ? words.renew[role]! : words.renewPublisher(role));

export function Trust() {
  const now = useNow();
  const names = useActorNames();
  const trust = api.useQuery("get", "/api/v1/trust", {});
  if (trust.error && !trust.data) {
    if (isStatus(trust.error, 404)) return <div className="section"><Empty title={words.none} lead={words.noneLead} command="aidos trust init" /></div>;
    return <ErrorPanel error={trust.error} retry={trust.refetch} />;
  }
  const view = trust.data;
  if (!view) return <Skeleton height={240} />;
  if (view.roles.length === 0) return <div className="section"><Empty title={words.none} lead={words.noneLead} command="aidos trust init" /></div>;
  const publishers = view.publishers ?? [];
  // The timestamp and the snapshot are renewed by the control plane itself.
  const byPeople = view.roles.filter(({ role }) => role !== "timestamp" && role !== "snapshot");
  const soon = byPeople.filter(({ expires_at }) => expires_at / 1_000 - now < SOON_MS);
  return (
    <div className="stack">
      {soon.length > 0 && (
        <Alert variant="default" role="alert" className="error-panel" title={words.soon(soon.length)}>
          <Stack gap="xs">{soon.map(({ role }) => <Command key={role}>{renewal(role)}</Command>)}</Stack>
        </Alert>
      )}
      <Section title={words.metadata}>
        <div className="scroll-x">
          <table className="plain">
            <thead><tr><th>{words.role}</th><th className="end">{words.version}</th><th>{text.settings.expires}</th><th>{words.signed}</th><th>{text.settings.by}</th><th>{words.renewBy}</th></tr></thead>
            <tbody>
              {view.roles.map((role) => {
                const leftMs = role.expires_at / 1_000 - now;
                return (
                  <tr key={role.role}>
                    <td><Name>{role.role}</Name></td>
                    <td className="end nums">{role.version}</td>
                    <td><TimeAgo at={role.expires_at} /> {leftMs < 0 ? <StateBadge tone="bad">{words.over}</StateBadge> : byPeople.includes(role) && leftMs < SOON_MS && <StateBadge tone="warn">{words.near}</StateBadge>}</td>
                    <td><TimeAgo at={role.created_at} /></td>
                    <td title={role.created_by}>{actorName(role.created_by, names)}</td>
                    <td>{byPeople.includes(role) ? <code className="mono nowrap">{renewal(role.role)} <CopyButton value={renewal(role.role)} /></code> : <span className="dim">{words.renewsItself}</span>}</td>
                  </tr>
                );
              })}
            </tbody>
          </table>
        </div>
      </Section>
      <Section title={words.publishers}>
        {publishers.length === 0 ? <span className="dim">{words.noPublishers}</span> : (
          <KeyValue items={publishers.map((publisher) => [publisher.name, <Name key={publisher.name} mono>{publisher.paths.join(", ")}</Name>] as const)} />
        )}
      </Section>
      <Section title={words.addresses}>
        <div className="stack">
          {([[words.metadata, view.metadata_url], [words.targets, view.targets_url]] as const).map(([what, url]) => (
            <div key={what}><div className="dim">{what}</div><Command>{url}</Command></div>
          ))}
        </div>
      </Section>
    </div>
  );
}
