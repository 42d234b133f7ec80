/** Join tokens: how often each may still be used. */
import { Button } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";
import { useQueryClient } from "@tanstack/react-query";
import { api, http, type Schemas } from "~/api/client";
import { text } from "~/text";
import { integer } from "~/ui/format";
import { ButtonLink } from "~/ui/ButtonLink";
import { Labels } from "~/ui/Labels";
import { Name } from "~/ui/Name";
import { PAGE, paging } from "~/ui/paging";
import { ResourceTable, type ResourceColumn } from "~/ui/ResourceTable";
import { Empty } from "~/ui/Section";
import { StateBadge } from "~/ui/StateBadge";
import { TimeAgo } from "~/ui/TimeAgo";
import { failed, told } from "~/ui/toast";

const words = text.settings;
type Token = Schemas["TokenView"];

export function Tokens() {
  const queries = useQueryClient();
  const tokens = api.useInfiniteQuery("get", "/api/v1/tokens", { params: { query: { limit: PAGE } } }, paging);
  const remove = async ({ id }: Token) => {
    try {
      await http.DELETE("/api/v1/tokens/{id}", { params: { path: { id } } });
      told(words.tokens.deleted);
      await queries.invalidateQueries({ predicate: ({ queryKey }) => queryKey[1] === "/api/v1/tokens" });
    } catch (error) {
      failed(error);
    }
  };
  const columns: readonly ResourceColumn<Token>[] = [
    { id: "id", header: text.devices.id, width: "minmax(3rem, 2fr)", value: ({ id }) => id, cell: ({ id }) => <Name mono>{id}</Name> },
    { id: "labels", header: text.devices.labels, width: "minmax(8rem, 2fr)", wide: true, value: ({ labels }) => JSON.stringify(labels), cell: ({ labels }) => <Labels labels={labels as Record<string, string>} most={3} /> },
    { id: "used", header: words.tokens.uses, width: "4.5rem", end: true, value: ({ used, uses }) => `${used}/${uses}`, cell: ({ used, uses }) => `${integer(used)} / ${integer(uses)}` },
    { id: "state", header: words.state, width: "5.5rem", value: ({ state }) => state, cell: ({ state }) => <StateBadge tone={state === "active" ? "good" : "quiet"}>{words.tokens.states[state]}</StateBadge> },
    { id: "expires", header: words.expires, width: "7rem", wide: true, value: ({ expires_at }) => new Date(expires_at / 1_000).toISOString(), cell: ({ expires_at }) => <TimeAgo at={expires_at} /> },
    { id: "delete", header: "", width: "4.5rem", end: true, value: () => "", cell: (token) => <Button size="compact-xs" variant="default" onClick={() => void remove(token)}>{words.tokens.delete}</Button> },
  ];
  return (
    <>
      <div className="filters"><ButtonLink to="/devices/add" leftSection={<IconPlus size={16} />}>{text.devices.add}</ButtonLink></div>
      <ResourceTable label={words.tabs.tokens} pages={tokens} columns={columns} rowId={({ id }) => id} read={(query) => http.GET("/api/v1/tokens", { params: { query } })} empty={<div className="section"><Empty title={words.tokens.none} lead={words.tokens.noneLead} command="aidos token create --uses 50 --ttl 1h --label site=lab" /></div>} />
    </>
  );
}
