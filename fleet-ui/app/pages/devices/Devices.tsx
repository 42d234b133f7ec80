/** All devices: filtered, searched and sorted by the control plane, as a list or on a map. */
import { Skeleton } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";
import { getRouteApi } from "@tanstack/react-router";
import { lazy, Suspense, useCallback, useDeferredValue } from "react";
import { api, http, type Schemas } from "~/api/client";
import { session } from "~/api/session";
import { text } from "~/text";
import { ButtonLink } from "~/ui/ButtonLink";
import { Labels } from "~/ui/Labels";
import { Name } from "~/ui/Name";
import { PAGE, paging } from "~/ui/paging";
import { ResourceTable, type ResourceColumn } from "~/ui/ResourceTable";
import { RowLink } from "~/ui/RowLink";
import { Empty, PageHead } from "~/ui/Section";
import { StateBadge, type Tone } from "~/ui/StateBadge";
import { TimeAgo } from "~/ui/TimeAgo";
import { BulkActions, SelectorActions } from "./BulkActions";
import "./devices.css";
import { Filters, type Search } from "./Filters";
import { SORTS } from "./routes";

const DeviceMap = lazy(() => import("./DeviceMap"));
const words = text.devices;
const route = getRouteApi("/shell/devices");

export type Device = Schemas["DeviceView"];
export const STATE_TONES: Record<Device["state"], Tone> = { online: "good", offline: "warn", revoked: "quiet" };

const iso = (at: number | null | undefined) => (at ? new Date(at / 1_000).toISOString() : "");

const columns: readonly ResourceColumn<Device>[] = [
  { id: "name", header: words.name, width: "minmax(9rem, 3fr)", sort: "name", value: ({ name }) => name, cell: ({ id, name }) => <RowLink className="main" to="/devices/$device" id={id}><Name>{name}</Name></RowLink> },
  { id: "state", header: words.state, width: "6.5rem", value: ({ state, drained_at }) => (drained_at == null ? state : `${state}, ${words.drained}`), cell: (device) => <State device={device} /> },
  { id: "labels", header: words.labels, width: "minmax(11rem, 4fr)", wide: true, value: ({ labels }) => Object.entries(labels).map(([key, value]) => `${key}=${value}`).join(","), cell: ({ labels }) => <Labels labels={labels} most={2} /> },
  { id: "link", header: words.link, width: "4.5rem", wide: true, value: ({ transport }) => transport, cell: ({ transport }) => transport?.toUpperCase() ?? text.ui.nothing },
  { id: "agent", header: words.agent, width: "5.5rem", wide: true, value: ({ agent_version }) => agent_version, cell: ({ agent_version }) => <Name mono>{agent_version ?? text.ui.nothing}</Name> },
  { id: "seen", header: words.lastSeen, width: "6.5rem", end: true, wide: true, sort: "last_seen", value: ({ last_seen_at }) => iso(last_seen_at), cell: ({ state, last_seen_at }) => (state === "online" ? text.ui.now : <TimeAgo at={last_seen_at} />) },
  { id: "joined", header: words.joined, width: "6.5rem", end: true, wide: true, sort: "newest", value: ({ created_at }) => iso(created_at), cell: ({ created_at }) => <TimeAgo at={created_at} /> },
];

/** In a narrow column: whether it is drained says more of a device that is online, and less of one that is not. */
function State({ device: { state, drained_at } }: { device: Device }) {
  if (state === "online" && drained_at != null) return <StateBadge tone="warn">{words.drained}</StateBadge>;
  return <StateBadge tone={STATE_TONES[state]}>{words.states[state]}</StateBadge>;
}

export function Devices() {
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const change = useCallback((changed: Partial<Search>) => void navigate({ search: (before) => ({ ...before, ...changed }), replace: true, resetScroll: false }), [navigate]);
  // The fields answer at once; the rows, of which each is another one then, follow when there is time.
  const { selector, q, state, sort = "name" } = useDeferredValue(search);
  const query = { limit: PAGE, sort, ...(selector && { selector }), ...(q && { q }), ...(state && { state }) };
  const devices = api.useInfiniteQuery("get", "/api/v1/devices", { params: { query } }, paging);
  const filtered = Boolean(search.selector || search.q || search.state);
  const operator = session.may("operator");
  // What a selector alone chooses is what a rollout would reach.
  const reachable = operator && search.selector && !search.q && !search.state && !devices.error;
  const add = operator && <ButtonLink to="/devices/add" leftSection={<IconPlus size={16} />}>{words.add}</ButtonLink>;

  return (
    <>
      <PageHead title={words.title}>{reachable && <SelectorActions selector={search.selector ?? ""} />}{add}</PageHead>
      <Filters search={search} change={change} error={devices.error} />
      {search.view === "map" ? (
        <Suspense fallback={<Skeleton height={420} />}><DeviceMap query={{ selector: search.selector, q: search.q, state: search.state }} /></Suspense>
      ) : (
        <ResourceTable
          label={words.title}
          pages={devices}
          read={(page) => http.GET("/api/v1/devices", { params: { query: { ...query, ...page } } })}
          columns={columns}
          rowId={({ id }) => id}
          rowName={({ name }) => name}
          sort={search.sort ?? "name"}
          onSort={(name) => change({ sort: SORTS.find((one) => one === name) })}
          {...(operator && { bulk: (rows: Device[], clear: () => void) => <BulkActions devices={rows} done={clear} /> })}
          empty={
            <div className="section">
              {filtered ? <Empty title={words.empty} lead={words.emptyLead} /> : <Empty title={words.none} lead={words.noneLead} command="aidos token create --label site=lab">{add}</Empty>}
            </div>
          }
        />
      )}
    </>
  );
}
