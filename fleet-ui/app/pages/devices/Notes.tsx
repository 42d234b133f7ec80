/** What people wrote about a device: labels, notes and its own settings, each edited in place. */
import { ActionIcon, Text } from "@mantine/core";
import { IconPencil } from "@tabler/icons-react";
import { useQueryClient } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import { api, http, type Schemas } from "~/api/client";
import { session } from "~/api/session";
import { text } from "~/text";
import { Labels } from "~/ui/Labels";
import type { Fields } from "~/ui/merge";
import { Name } from "~/ui/Name";
import { Section } from "~/ui/Section";
import { settingsToFields, valueOf } from "./fields";
import { FieldsEditor, type Keeper } from "./FieldsEditor";

const words = text.devices;
type What = "labels" | "notes" | "config";

/** Settings that an agent follows as single keys. */
const SETTINGS = ["log.level", "telemetry.interval_s"];

export function Notes({ device }: { device: Schemas["DeviceDetail"] }) {
  const [editing, setEditing] = useState<What>();
  const config = api.useQuery("get", "/api/v1/devices/{device}/config", { params: { path: { device: device.id } } });
  const settings = settingsToFields(config.data ?? {});
  const keepers = useKeepers(device.id);
  const initial: Record<What, Fields> = { labels: device.labels, notes: device.notes, config: settings };
  const pencil = (what: What) => session.may("operator") && device.state !== "revoked" && (
    <ActionIcon variant="subtle" color="gray" aria-label={`${text.ui.edit}: ${words[what]}`} onClick={() => setEditing(what)}><IconPencil size={16} /></ActionIcon>
  );
  return (
    <>
      <Section title={words.labels} aside={pencil("labels")}>
        {Object.keys(device.labels).length > 0 ? <Labels labels={device.labels} most={100} /> : <Text size="sm" className="dim">{words.noLabels}</Text>}
      </Section>
      <Section title={words.notes} aside={pencil("notes")}>
        <Listed fields={device.notes} none={words.noNotes} />
      </Section>
      <Section title={words.config} aside={config.data && pencil("config")}>
        <Listed fields={settings} none={words.noConfig} />
      </Section>
      {editing && (
        <FieldsEditor
          title={words[editing]} initial={initial[editing]} keeper={keepers[editing]} close={() => setEditing(undefined)} long={editing === "notes"}
          {...(editing === "config" && { lead: words.configLead, keys: SETTINGS })}
        />
      )}
    </>
  );
}

function Listed({ fields, none }: { fields: Fields; none: string }) {
  const entries = Object.entries(fields);
  if (entries.length === 0) return <Text size="sm" className="dim">{none}</Text>;
  return (
    <dl className="facts-long">
      {entries.map(([key, value]) => <div key={key}><dt><Name>{key}</Name></dt><dd><Name lines={8}>{value}</Name></dd></div>)}
    </dl>
  );
}

/** How each of the three is read anew and written with the tag of what was read. */
function useKeepers(device: string): Record<What, Keeper> {
  const queries = useQueryClient();
  return useMemo(() => {
    const path = { device };
    const written = () => queries.invalidateQueries({ predicate: ({ queryKey }) => String(queryKey[1]).startsWith("/api/v1/devices") });
    const ofDevice = (what: "labels" | "notes"): Keeper => ({
      read: async () => {
        const { data, response } = await http.GET("/api/v1/devices/{device}", { params: { path } });
        return { fields: data![what], tag: response.headers.get("etag") ?? undefined };
      },
      write: async (change, tag) => {
        await http.PATCH("/api/v1/devices/{device}", { params: { path, header: { "If-Match": tag ?? null } }, body: { [what]: change } });
        await written();
      },
    });
    const config: Keeper = {
      read: async () => {
        const { data, response } = await http.GET("/api/v1/devices/{device}/config", { params: { path } });
        return { fields: settingsToFields(data ?? {}), tag: response.headers.get("etag") ?? undefined };
      },
      write: async (change, tag) => {
        const body = Object.fromEntries(Object.entries(change).map(([key, value]) => [key, value === null ? null : valueOf(value)]));
        await http.PATCH("/api/v1/devices/{device}/config", { params: { path, header: { "If-Match": tag ?? null } }, body });
        await written();
      },
    };
    return { labels: ofDevice("labels"), notes: ofDevice("notes"), config };
  }, [device, queries]);
}
