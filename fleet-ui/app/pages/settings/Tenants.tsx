/** Tenants: an owner of the root tenant sees and makes all, everyone else sees their own. */
import { Button, Group, Modal, Stack, Text, TextInput } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { api, http, type Schemas } from "~/api/client";
import { objectionIn } from "~/api/objection";
import { session } from "~/api/session";
import { text } from "~/text";
import { ErrorPanel } from "~/ui/ErrorPanel";
import { Name } from "~/ui/Name";
import { PAGE, paging } from "~/ui/paging";
import { ResourceTable, type ResourceColumn } from "~/ui/ResourceTable";
import { TimeAgo } from "~/ui/TimeAgo";
import { Wrong } from "~/ui/Wrong";
import { Secret } from "./Secret";

const words = text.settings;
type Tenant = Schemas["TenantView"];

const columns: readonly ResourceColumn<Tenant>[] = [
  { id: "name", header: words.name, width: "minmax(8rem, 2fr)", value: ({ name }) => name, cell: ({ name, root }) => <span><Name>{name}</Name> {root && <span className="dim">{words.tenants.root}</span>}</span> },
  { id: "id", header: text.devices.id, width: "minmax(10rem, 3fr)", wide: true, value: ({ id }) => id, cell: ({ id }) => <span className="mono">{id}</span> },
  { id: "created", header: words.created, width: "8rem", end: true, value: ({ created_at }) => new Date(created_at / 1_000).toISOString(), cell: ({ created_at }) => <TimeAgo at={created_at} /> },
];

export function Tenants() {
  const tenants = api.useInfiniteQuery("get", "/api/v1/tenants", { params: { query: { limit: PAGE } } }, paging);
  const [making, setMaking] = useState(false);
  const may = session.may("owner") && session.get()?.tenant.root === true;
  return (
    <>
      {may && <div className="filters"><Button leftSection={<IconPlus size={16} />} onClick={() => setMaking(true)}>{words.tenants.new}</Button></div>}
      <ResourceTable label={words.tabs.tenants} pages={tenants} columns={columns} rowId={({ id }) => id} read={(query) => http.GET("/api/v1/tenants", { params: { query } })} empty={null} />
      {making && <NewTenant close={() => setMaking(false)} />}
    </>
  );
}

function NewTenant({ close }: { close: () => void }) {
  const queries = useQueryClient();
  const [name, setName] = useState("");
  const [key, setKey] = useState<string>();
  const [error, setError] = useState<unknown>();
  const make = async () => {
    setError(undefined);
    try {
      const { data } = await http.POST("/api/v1/tenants", { body: { name: name.trim() } });
      setKey(data?.owner_key);
      await queries.invalidateQueries({ predicate: ({ queryKey }) => queryKey[1] === "/api/v1/tenants" });
    } catch (failure) {
      setError(failure);
    }
  };
  const objection = objectionIn(error);
  return (
    <Modal opened onClose={close} title={words.tenants.newTitle} closeOnClickOutside={!key} closeButtonProps={{ "aria-label": text.ui.close }}>
      {key ? <><Text size="sm" mb="sm">{words.tenants.owner}</Text><Secret value={key} close={close} /></> : (
        <form onSubmit={(event) => (event.preventDefault(), void make())}>
          <Stack>
            <TextInput data-autofocus label={words.name} value={name} error={objection && <Wrong objection={objection} />} onChange={(event) => setName(event.currentTarget.value)} />
            {error !== undefined && !objection && <ErrorPanel error={error} />}
            <Group justify="flex-end">
              <Button variant="default" onClick={close}>{text.ui.cancel}</Button>
              <Button type="submit" disabled={!name.trim()}>{words.make}</Button>
            </Group>
          </Stack>
        </form>
      )}
    </Modal>
  );
}
