/** All models of the registry. */
import { TextInput } from "@mantine/core";
import { IconRocket, IconSearch } from "@tabler/icons-react";
import { getRouteApi } from "@tanstack/react-router";
import { useEffect, useState } from "react";
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
import { TimeAgo } from "~/ui/TimeAgo";

type Model = Schemas["ModelView"];
const words = text.models;
const route = getRouteApi("/shell/models");

const aliasesOf = (aliases: Model["aliases"]) => Object.entries(aliases).map(([alias, version]) => `${alias} → ${version}`).join(", ");

const columns: readonly ResourceColumn<Model>[] = [
  { id: "name", header: words.name, width: "minmax(8rem, 1.5fr)", value: ({ name }) => name, cell: ({ name }) => <RowLink className="main" to="/models/$model" id={name}><Name>{name}</Name></RowLink> },
  { id: "description", header: words.description, width: "minmax(8rem, 3fr)", wide: true, value: ({ description }) => description, cell: ({ description }) => <Name>{description ?? ""}</Name> },
  { id: "latest", header: words.latest, width: "4.5rem", end: true, value: ({ latest_version }) => latest_version, cell: ({ latest_version }) => latest_version ?? text.ui.nothing },
  { id: "aliases", header: words.aliases, width: "minmax(7rem, 1.5fr)", wide: true, value: ({ aliases }) => aliasesOf(aliases), cell: ({ aliases }) => <Name>{aliasesOf(aliases)}</Name> },
  { id: "labels", header: words.labels, width: "minmax(7rem, 1.5fr)", wide: true, value: ({ labels }) => JSON.stringify(labels), cell: ({ labels }) => <Labels labels={labels as Record<string, string>} most={2} /> },
  { id: "updated", header: words.updated, width: "7rem", end: true, wide: true, value: ({ updated_at }) => new Date(updated_at / 1_000).toISOString(), cell: ({ updated_at }) => <TimeAgo at={updated_at} /> },
  {
    id: "roll-out", header: words.rollOut, width: "6.5rem", end: true, value: () => "",
    cell: ({ name, latest_version }) => latest_version && session.may("operator") && (
      <ButtonLink className="above" size="compact-xs" variant="default" leftSection={<IconRocket size={13} />} to="/rollouts/new" search={{ subject: `${name}@${latest_version}` }}>{words.rollOut}</ButtonLink>
    ),
  },
];

export function Models() {
  const { q = "" } = route.useSearch();
  const navigate = route.useNavigate();
  const [typed, setTyped] = useState(q);
  useEffect(() => setTyped(q), [q]);
  const query = { limit: PAGE, ...(q && { search: q }) };
  const models = api.useInfiniteQuery("get", "/api/v1/models", { params: { query } }, paging);
  const search = () => void navigate({ search: { q: typed.trim() || undefined }, replace: true, resetScroll: false });
  return (
    <>
      <PageHead title={words.title} />
      <div className="filters">
        <TextInput className="grow" aria-label={text.ui.search} placeholder={text.ui.search} leftSection={<IconSearch size={15} />} value={typed} onChange={(event) => setTyped(event.currentTarget.value)} onBlur={search} onKeyDown={(event) => event.key === "Enter" && search()} />
      </div>
      <ResourceTable
        label={words.title} pages={models} columns={columns} rowId={({ name }) => name}
        read={(page) => http.GET("/api/v1/models", { params: { query: { ...query, ...page } } })}
        empty={<div className="section">{q ? <Empty title={words.noneMatch} /> : <Empty title={words.none} lead={words.noneLead} command="aidos model push magika.onnx --name magika" />}</div>}
      />
    </>
  );
}
