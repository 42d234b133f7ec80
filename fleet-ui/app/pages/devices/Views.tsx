/** Filters that a person keeps under a name, in this browser. A view is an address, so that it can be sent to others. */
import { ActionIcon, Button, Divider, Group, Popover, Text, TextInput } from "@mantine/core";
import { useDisclosure, useLocalStorage } from "@mantine/hooks";
import { IconBookmark, IconTrash } from "@tabler/icons-react";
import { getRouteApi, Link } from "@tanstack/react-router";
import { memo, useState } from "react";
import type { Search as SearchOf } from "~/shell/search";
import { text } from "~/text";
import type { DEVICE_SEARCH } from "./routes";

const words = text.devices;
const route = getRouteApi("/shell/devices");
const MOST = 50;

interface View {
  readonly name: string;
  readonly search: SearchOf<typeof DEVICE_SEARCH>;
}

export const Views = memo(() => {
  const [opened, { toggle, close }] = useDisclosure();
  return (
    <Popover opened={opened} onChange={(open) => !open && close()} position="bottom-end" width={290} trapFocus withinPortal={false}>
      <Popover.Target><Button variant="default" leftSection={<IconBookmark size={15} />} aria-expanded={opened} onClick={toggle}>{words.views}</Button></Popover.Target>
      <Popover.Dropdown p={6}><Kept close={close} /></Popover.Dropdown>
    </Popover>
  );
});

/** What is looked at only while it is open. */
function Kept({ close }: { close: () => void }) {
  const search = route.useSearch();
  const [views, setViews] = useLocalStorage<readonly View[]>({ key: "aidos.device-views", defaultValue: [] });
  const [name, setName] = useState("");
  const save = () => {
    if (!name.trim()) return;
    setViews((before) => [{ name: name.trim().slice(0, 80), search }, ...before.filter((view) => view.name !== name.trim())].slice(0, MOST));
    setName("");
  };
  return (
    <>
      {views.length === 0 && <Text size="xs" className="dim" p={6}>{words.noViews}</Text>}
      {views.map((view) => (
        <Group key={view.name} gap={4} wrap="nowrap">
          <Link to="/devices" search={view.search} className="view-link" onClick={close}><bdi className="cut">{view.name}</bdi></Link>
          <ActionIcon variant="subtle" color="gray" aria-label={words.deleteView(view.name)} onClick={() => setViews((before) => before.filter((one) => one.name !== view.name))}>
            <IconTrash size={15} />
          </ActionIcon>
        </Group>
      ))}
      <Divider my={6} />
      <Group gap={6} p={6} wrap="nowrap">
        <TextInput
          size="xs" aria-label={words.viewName} placeholder={words.viewName} value={name} style={{ flex: 1 }}
          onChange={(event) => setName(event.currentTarget.value)}
          onKeyDown={(event) => event.key === "Enter" && save()}
        />
        <Button size="xs" onClick={save} disabled={!name.trim()}>{words.saveView}</Button>
      </Group>
    </>
  );
}
