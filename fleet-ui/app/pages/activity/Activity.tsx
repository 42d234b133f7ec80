/** Who did what to what, newest first; filtered by the control plane, to be exported. */
import { TextInput } from "@mantine/core";
import { getRouteApi } from "@tanstack/react-router";
import { useEffect, useMemo, useState } from "react";
import { api, http } from "~/api/client";
import { text } from "~/text";
import { Name } from "~/ui/Name";
import { PAGE, paging } from "~/ui/paging";
import { ResourceTable, type ResourceColumn } from "~/ui/ResourceTable";
import { Empty, PageHead } from "~/ui/Section";
import { TimeAgo } from "~/ui/TimeAgo";
import "./activity.css";
import { Actor, Target, type Entry } from "./Events";
import { useActorNames } from "./useActorNames";

const words = text.activity;
const route = getRouteApi("/shell/activity");

const said = (detail: unknown) => (detail && typeof detail === "object" && Object.keys(detail).length > 0 ? JSON.stringify(detail) : "");

const columnsOf = (names: ReadonlyMap<string, string>): readonly ResourceColumn<Entry>[] => [
  { id: "when", header: words.when, width: "6.2rem", value: ({ at }) => new Date(at / 1_000).toISOString(), cell: ({ at }) => <TimeAgo at={at} /> },
  { id: "actor", header: words.actor, width: "minmax(7rem, 1fr)", wide: true, value: ({ actor }) => actor, cell: ({ actor }) => <Actor actor={actor} names={names} /> },
  {
    id: "action", header: words.action, width: "minmax(7rem, 1fr)", value: ({ action }) => action,
    // A phone has no place for a column of who did it.
    cell: ({ action, actor }) => <>{action}<span className="beneath dim"><Actor actor={actor} names={names} /></span></>,
  },
  { id: "target", header: words.target, width: "minmax(0, 2fr)", value: ({ target }) => target, cell: (entry) => <Target entry={entry} /> },
  { id: "detail", header: words.detail, width: "minmax(8rem, 2fr)", wide: true, value: ({ detail }) => said(detail), cell: ({ detail }) => <Name mono>{said(detail)}</Name> },
  { id: "from", header: words.from, width: "8rem", wide: true, value: ({ from }) => from, cell: ({ from }) => from ?? text.ui.nothing },
];

const FIELDS = [
  { name: "actor", label: words.actor, placeholder: words.anyActor },
  { name: "action", label: words.action, placeholder: words.anyAction },
  { name: "target", label: words.target, placeholder: words.anyTarget },
  { name: "since", label: words.since, moment: true },
  { name: "until", label: words.until, moment: true },
] as const;

const micros = (local: string | undefined) => {
  const at = local ? new Date(local).getTime() : NaN;
  return Number.isFinite(at) ? at * 1_000 : undefined;
};

export function Activity() {
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const [since, until] = [micros(search.since), micros(search.until)];
  const query = {
    limit: PAGE,
    ...(search.actor && { actor: search.actor }), ...(search.action && { action: search.action }), ...(search.target && { target: search.target }),
    ...(since && { since }), ...(until && { until }),
  };
  const activity = api.useInfiniteQuery("get", "/api/v1/activity", { params: { query } }, paging);
  const names = useActorNames();
  const columns = useMemo(() => columnsOf(names), [names]);
  const set = (name: string, value: string) => void navigate({ search: (before) => ({ ...before, [name]: value.trim() || undefined }), replace: true, resetScroll: false });
  return (
    <>
      <PageHead title={words.title} />
      <div className="filters activity-filters">
        {FIELDS.map((field) => <Filter key={field.name} {...field} value={search[field.name] ?? ""} onChange={(value) => set(field.name, value)} />)}
      </div>
      <ResourceTable
        label={words.title} pages={activity} columns={columns} rowId={({ id }) => id}
        read={(page) => http.GET("/api/v1/activity", { params: { query: { ...query, ...page } } })}
        empty={<div className="section"><Empty title={words.none} lead={words.noneLead} /></div>}
      />
    </>
  );
}

interface FilterProps {
  readonly label: string;
  readonly placeholder?: string;
  readonly moment?: boolean;
  readonly value: string;
  readonly onChange: (value: string) => void;
}

function Filter({ label, placeholder, moment, value, onChange }: FilterProps) {
  const [typed, setTyped] = useState(value);
  useEffect(() => setTyped(value), [value]);
  return (
    <TextInput
      className={moment ? "moment" : undefined} type={moment ? "datetime-local" : "text"} label={label} placeholder={placeholder} value={typed}
      onChange={(event) => setTyped(event.currentTarget.value)}
      onBlur={() => typed !== value && onChange(typed)}
      onKeyDown={(event) => event.key === "Enter" && onChange(typed)}
    />
  );
}
