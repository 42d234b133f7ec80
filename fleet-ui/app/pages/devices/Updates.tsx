/** What was rolled out or deployed to a device, newest first. The API has no list by device: it is chosen by selector here. */
import { Skeleton, Text } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { useMemo } from "react";
import { api, type Schemas } from "~/api/client";
import { text } from "~/text";
import { ErrorPanel } from "~/ui/ErrorPanel";
import { Name } from "~/ui/Name";
import { Empty, Section } from "~/ui/Section";
import { StateBadge, type Tone } from "~/ui/StateBadge";
import { TimeAgo } from "~/ui/TimeAgo";
import { selects } from "./selects";

const words = text.devices;
const NEWEST = 200;
const DEPLOYMENT_TONES: Record<Schemas["DeploymentState"], Tone> = { active: "good", stopped: "quiet", superseded: "quiet" };

export function Updates({ device }: { device: Schemas["DeviceDetail"] }) {
  const newest = { params: { query: { limit: NEWEST } } };
  const rollouts = api.useQuery("get", "/api/v1/rollouts", newest);
  const deployments = api.useQuery("get", "/api/v1/deployments", newest);
  const twin = api.useQuery("get", "/api/v1/devices/{device}/twin", { params: { path: { device: device.id } } });
  const holding = useMemo(() => new Set(Object.values(twin.data?.intent.models ?? {}).flatMap((model) => model?.deployment ?? [])), [twin.data]);
  const error = rollouts.error ?? deployments.error;
  if (error) return <ErrorPanel error={error} retry={() => Promise.all([rollouts.refetch(), deployments.refetch()])} />;
  if (!rollouts.data || !deployments.data) return <Skeleton height={240} />;

  const staged = new Set(rollouts.data.items.map(({ id }) => id));
  const touched = ({ id, selector }: { id: string; selector: string }) => holding.has(id) || selects(selector, device.labels);
  const rows = [
    ...rollouts.data.items.filter(touched).map((one) => ({ ...one, rollout: true, badge: <StateBadge tone={one.phase === "running" ? "busy" : one.phase === "finished" ? "good" : one.phase === "superseded" ? "quiet" : "warn"}>{text.rollouts.phases[one.phase]}</StateBadge> })),
    ...deployments.data.items.filter(({ id }) => !staged.has(id)).filter(touched).map((one) => ({ ...one, rollout: false, badge: <StateBadge tone={DEPLOYMENT_TONES[one.state]}>{text.models.deploymentStates[one.state]}</StateBadge> })),
  ].sort((a, b) => b.created_at - a.created_at);

  return (
    <Section title={words.tabs.updates}>
      <Text size="sm" className="dim" mb="sm">{words.updatesLead}</Text>
      {rows.length === 0 ? <Empty title={words.noUpdates} lead={words.noUpdatesLead} command={`aidos rollout list`} /> : (
        <div className="scroll-x" tabIndex={0} role="group" aria-label={words.tabs.updates}>
          <table className="plain">
            <thead><tr><th>{text.rollouts.subject}</th><th>{words.state}</th><th>{text.rollouts.selector}</th><th>{words.by}</th><th>{text.rollouts.created}</th></tr></thead>
            <tbody>
              {rows.map(({ id, subject, version, selector, created_by, created_at, rollout, badge }) => (
                <tr key={id}>
                  <td>
                    {rollout ? <Link to="/rollouts/$rollout" params={{ rollout: id }}>{subject}@{version}</Link> : subject.startsWith("agent.") ? `${subject}@${version}` : <Link to="/models/$model" params={{ model: subject }}>{subject}@{version}</Link>}
                    {holding.has(id) && <div className="dim">{words.holdsHere}</div>}
                  </td>
                  <td>{badge}</td>
                  <td><Name mono>{selector || "*"}</Name></td>
                  <td className="dim"><span title={created_by}>{created_by.split(":")[0]}</span></td>
                  <td><TimeAgo at={created_at} /></td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </Section>
  );
}
