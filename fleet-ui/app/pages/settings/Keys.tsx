/** API keys: who may do what, and since when somebody did. */
import { Button } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { api, http, type Schemas } from "~/api/client";
import { text } from "~/text";
import { Confirm } from "~/ui/Confirm";
import { Name } from "~/ui/Name";
import { PAGE, paging } from "~/ui/paging";
import { ResourceTable, type ResourceColumn } from "~/ui/ResourceTable";
import { Empty } from "~/ui/Section";
import { StateBadge } from "~/ui/StateBadge";
import { TimeAgo } from "~/ui/TimeAgo";
import { failed, told } from "~/ui/toast";
import { NewKey } from "./NewKey";

const words = text.settings;
type Key = Schemas["KeyView"];

const stateOf = (key: Key) => (key.revoked_at ? "revoked" : key.expires_at && key.expires_at / 1_000 < Date.now() ? "expired" : "active");

export function Keys() {
  const queries = useQueryClient();
  const keys = api.useInfiniteQuery("get", "/api/v1/keys", { params: { query: { limit: PAGE } } }, paging);
  const [making, setMaking] = useState(false);
  const [revoking, setRevoking] = useState<Key>();
  const fresh = () => queries.invalidateQueries({ predicate: ({ queryKey }) => queryKey[1] === "/api/v1/keys" });
  const revoke = async (key: Key) => {
    try {
      await http.DELETE("/api/v1/keys/{key}", { params: { path: { key: key.id } } });
      told(words.revoked);
      await fresh();
    } catch (error) {
      failed(error);
    }
  };
  const columns: readonly ResourceColumn<Key>[] = [
    { id: "name", header: words.name, width: "minmax(5rem, 2fr)", value: ({ name }) => name, cell: ({ name }) => <Name>{name}</Name> },
    { id: "role", header: words.role, width: "4.5rem", value: ({ role }) => role, cell: ({ role }) => text.shell.role[role] },
    { id: "hint", header: words.hint, width: "8rem", wide: true, value: ({ hint }) => hint, cell: ({ hint }) => <Name mono>{hint}</Name> },
    { id: "used", header: words.lastUsed, width: "7rem", wide: true, value: ({ last_used_at }) => last_used_at && new Date(last_used_at / 1_000).toISOString(), cell: ({ last_used_at }) => <TimeAgo at={last_used_at} /> },
    { id: "expires", header: words.expires, width: "7rem", wide: true, value: ({ expires_at }) => expires_at && new Date(expires_at / 1_000).toISOString(), cell: ({ expires_at }) => <TimeAgo at={expires_at} /> },
    { id: "state", header: words.state, width: "5.2rem", value: stateOf, cell: (key) => <StateBadge tone={stateOf(key) === "active" ? "good" : "quiet"}>{words[stateOf(key)]}</StateBadge> },
    { id: "revoke", header: "", width: "5rem", end: true, value: () => "", cell: (key) => stateOf(key) === "active" && <Button size="compact-xs" variant="default" onClick={() => setRevoking(key)}>{words.revoke}</Button> },
  ];
  return (
    <>
      <div className="filters"><Button leftSection={<IconPlus size={16} />} onClick={() => setMaking(true)}>{words.newKey}</Button></div>
      <ResourceTable label={words.tabs.keys} pages={keys} columns={columns} rowId={({ id }) => id} read={(query) => http.GET("/api/v1/keys", { params: { query } })} empty={<div className="section"><Empty title={words.noKeys} command="aidos key create --name ci --role operator" /></div>} />
      {making && <NewKey close={() => (setMaking(false), void fresh())} />}
      {revoking && <Confirm title={words.revokeKey(revoking.name)} lead={words.revokeKeyLead} action={words.revokeDo} word={revoking.name.trim()} close={() => setRevoking(undefined)} confirmed={() => revoke(revoking)} />}
    </>
  );
}
