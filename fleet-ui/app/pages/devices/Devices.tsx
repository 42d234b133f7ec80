/** All devices: filtered, searched and sorted by the control plane, as a list or on a map. */
import { SegmentedControl, Select, Skeleton, TextInput } from "@mantine/core";
import { IconPlus, IconSearch } from "@tabler/icons-react";
import { getRouteApi, Link } from "@tanstack/react-router";
import { lazy, Suspense, useEffect, useState } from "react";
import { api, type Schemas } from "~/api/client";
import { session } from "~/api/session";
import { text } from "~/text";
import { ButtonLink } from "~/ui/ButtonLink";
import { Labels } from "~/ui/Labels";
import { Name } from "~/ui/Name";
import { PAGE, paging } from "~/ui/paging";
import { ResourceTable, type ResourceColumn } from "~/ui/ResourceTable";
import { Empty, PageHead } from "~/ui/Section";
import { SelectorInput } from "~/ui/SelectorInput";
import { StateBadge, type Tone } from "~/ui/StateBadge";
import { TimeAgo } from "~/ui/TimeAgo";
import { BulkActions, SelectorActions } from "./BulkActions";
import "./devices.css";
import { SORTS, STATES } from "./routes";
import { Views } from "./Views";

const DeviceMap = lazy(() => import("./DeviceMap"));
const words = text.devices;
const route = getRouteApi("/shell/devices");

export type Device = Schemas["DeviceView"];
export const STATE_TONES: Record<Device["state"], Tone> = { online: "good", offline: "warn", revoked: "quiet" };

const iso = (at: number | null | undefined) => (at ? new Date(at / 1_000).toISOString() : "");

const columns: readonly ResourceColumn<Device>[] = [
  { id: "name", header: words.name, width: "minmax(9rem, 3fr)", sort: "name", value: ({ name }) => name, cell: ({ id, name }) => <Link className="main" to="/devices/$device" params={{ device: id }}><Name>{name}</Name></Link> },
  { id: "state", header: words.state, width: "6.5rem", value: ({ state }) => state, cell: ({ state }) => <StateBadge tone={STATE_TONES[state]}>{words.states[state]}</StateBadge> },
  { id: "labels", header: words.labels, width: "minmax(11rem, 4fr)", wide: true, value: ({ labels }) => Object.entries(labels).map(([key, value]) => `${key}=${value}`).join(","), cell: ({ labels }) => <Labels labels={labels} most={2} /> },
  { id: "link", header: words.link, width: "4.5rem", wide: true, value: ({ transport }) => transport, cell: ({ transport }) => transport?.toUpperCase() ?? text.ui.nothing },
  { id: "agent", header: words.agent, width: "5.5rem", wide: true, value: ({ agent_version }) => agent_version, cell: ({ agent_version }) => <Name mono>{agent_version ?? text.ui.nothing}</Name> },
  { id: "seen", header: words.lastSeen, width: "6.5rem", end: true, wide: true, sort: "last_seen", value: ({ last_seen_at }) => iso(last_seen_at), cell: ({ state, last_seen_at }) => (state === "online" ? text.ui.now : <TimeAgo at={last_seen_at} />) },
  { id: "joined", header: words.joined, width: "6.5rem", end: true, wide: true, sort: "newest", value: ({ created_at }) => iso(created_at), cell: ({ created_at }) => <TimeAgo at={created_at} /> },
];

export function Devices() {
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const change = (changed: Partial<typeof search>) => void navigate({ search: (before) => ({ ...before, ...changed }), replace: true });
  const sort = search.sort ?? "name";
  const query = { limit: PAGE, sort, ...(search.selector && { selector: search.selector }), ...(search.q && { q: search.q }), ...(search.state && { state: search.state }) };
  const devices = api.useInfiniteQuery("get", "/api/v1/devices", { params: { query } }, paging);
  const filtered = Boolean(search.selector || search.q || search.state);
  const operator = session.may("operator");
  // What a selector alone chooses is what a rollout would reach.
  const reachable = operator && search.selector && !search.q && !search.state && !devices.error;
  const add = operator && <ButtonLink to="/devices/add" leftSection={<IconPlus size={16} />}>{words.add}</ButtonLink>;

  return (
    <>
      <PageHead title={words.title}>{reachable && <SelectorActions selector={search.selector ?? ""} />}{add}</PageHead>
      <div className="filters">
        <SearchInput value={search.q ?? ""} onChange={(q) => change({ q: q || undefined })} />
        <SelectorInput bare value={search.selector ?? ""} onChange={(selector) => change({ selector: selector || undefined })} error={devices.error} />
        <Select
          aria-label={words.state} placeholder={words.anyState} clearable clearButtonProps={{ "aria-label": text.ui.remove }} w={140} value={search.state ?? null}
          data={STATES.map((value) => ({ value, label: words.states[value] }))}
          onChange={(state) => change({ state: STATES.find((one) => one === state) })}
        />
        <SegmentedControl
          aria-label={words.view} value={search.view ?? "list"} data={[{ value: "list", label: words.list }, { value: "map", label: words.map }]}
          onChange={(view) => change({ view: view === "map" ? "map" : undefined })}
        />
        <Views search={search} />
      </div>
      {search.view === "map" ? (
        <Suspense fallback={<Skeleton height={420} />}><DeviceMap query={{ selector: search.selector, q: search.q, state: search.state }} /></Suspense>
      ) : (
        <ResourceTable
          label={words.title}
          pages={devices}
          columns={columns}
          rowId={({ id }) => id}
          rowName={({ name }) => name}
          sort={sort}
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

function SearchInput({ value, onChange }: { value: string; onChange: (value: string) => void }) {
  const [typed, setTyped] = useState(value);
  useEffect(() => setTyped(value), [value]);
  return (
    <TextInput
      className="grow" aria-label={text.ui.search} placeholder={text.ui.search} leftSection={<IconSearch size={15} />} maxLength={128} value={typed}
      onChange={(event) => setTyped(event.currentTarget.value)}
      onBlur={() => typed !== value && onChange(typed.trim())}
      onKeyDown={(event) => event.key === "Enter" && onChange(typed.trim())}
    />
  );
}
