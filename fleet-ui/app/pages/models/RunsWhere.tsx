/** Where a model is wanted: its deployments with their progress, and the devices of the chosen one; at first the newest that holds. */
import { Skeleton } from "@mantine/core";
import { getRouteApi, Link } from "@tanstack/react-router";
import { api, http, type Schemas } from "~/api/client";
import { PROGRESS_TONES } from "~/pages/devices/updates";
import { text } from "~/text";
import { ErrorPanel } from "~/ui/ErrorPanel";
import { Name } from "~/ui/Name";
import { PAGE, paging } from "~/ui/paging";
import { ResourceTable, type ResourceColumn } from "~/ui/ResourceTable";
import { RowLink } from "~/ui/RowLink";
import { Empty, Section } from "~/ui/Section";
import { StateBadge } from "~/ui/StateBadge";
import { TimeAgo } from "~/ui/TimeAgo";

const words = text.models;
const route = getRouteApi("/shell/models/$model");
type Member = Schemas["DeploymentDeviceView"];

const columns: readonly ResourceColumn<Member>[] = [
  { id: "device", header: words.device, width: "minmax(9rem, 2fr)", value: ({ name, device }) => name || device, cell: ({ name, device }) => <RowLink className="main" to="/devices/$device" id={device}><Name>{name || device}</Name></RowLink> },
  { id: "active", header: words.version, width: "5rem", end: true, value: ({ active_version }) => active_version, cell: ({ active_version }) => active_version ?? text.ui.nothing },
  { id: "progress", header: words.state, width: "8rem", value: ({ progress }) => progress, cell: ({ progress }) => <StateBadge tone={PROGRESS_TONES[progress]}>{words.progresses[progress]}</StateBadge> },
  { id: "error", header: text.rollouts.reason, width: "minmax(8rem, 3fr)", wide: true, value: ({ error }) => error, cell: ({ error }) => <Name>{error ?? ""}</Name> },
  { id: "updated", header: words.updated, width: "7rem", end: true, wide: true, value: ({ updated_at }) => new Date(updated_at / 1_000).toISOString(), cell: ({ updated_at }) => <TimeAgo at={updated_at} /> },
];

export function RunsWhere({ model }: { model: string }) {
  const search = route.useSearch();
  const deployments = api.useQuery("get", "/api/v1/deployments", { params: { query: { subject: model, limit: 50 } } });
  if (deployments.error && !deployments.data) return <ErrorPanel error={deployments.error} retry={deployments.refetch} />;
  const items = deployments.data?.items;
  if (!items) return <Skeleton height={200} />;
  if (items.length === 0) return <div className="section"><Empty title={words.notDeployed} command={`aidos deploy ${model}@1 --to site=lab`} /></div>;
  const chosen = items.find(({ id }) => id === search.deployment) ?? items.find(({ state }) => state === "active") ?? items[0]!;
  return (
    <div className="stack">
      <Section title={words.whereRun}>
        <div className="scroll-x">
          <table className="plain">
            <thead><tr><th>{words.version}</th><th>{words.selector}</th><th>{words.state}</th><th>{words.progress}</th><th>{text.rollouts.created}</th></tr></thead>
            <tbody>
              {items.map((deployment) => (
                <tr key={deployment.id} className={deployment === chosen ? "chosen-row" : undefined}>
                  <td><Link to="/rollouts/$rollout" params={{ rollout: deployment.id }}>{words.version} {deployment.version}</Link></td>
                  <td className="mono"><Name>{deployment.selector || text.rollouts.everyone}</Name></td>
                  <td><StateBadge tone={deployment.state === "active" ? "good" : "quiet"}>{words.deploymentStates[deployment.state]}</StateBadge></td>
                  <td className="nums"><Link to="." search={(before) => ({ ...before, deployment: deployment.id })} replace resetScroll={false} aria-current={deployment === chosen ? "true" : undefined}>{words.counts(deployment.counts.ready, deployment.counts.total)}</Link></td>
                  <td><TimeAgo at={deployment.created_at} /></td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      </Section>
      <Devices deployment={chosen.id} />
    </div>
  );
}

function Devices({ deployment }: { deployment: string }) {
  const path = { id: deployment };
  const devices = api.useInfiniteQuery("get", "/api/v1/deployments/{id}/devices", { params: { path, query: { limit: PAGE } } }, paging);
  return (
    <ResourceTable
      label={text.devices.title} pages={devices} columns={columns} rowId={({ device }) => device} height="480px"
      read={(page) => http.GET("/api/v1/deployments/{id}/devices", { params: { path, query: page } })}
      empty={<div className="section"><Empty title={text.devices.empty} /></div>}
    />
  );
}
