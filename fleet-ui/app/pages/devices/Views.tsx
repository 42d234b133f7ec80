/** Filters that a person keeps under a name, in this browser. A view is an address, so that it can be sent to others. */
import { ActionIcon, Button, Divider, Group, Popover, Text, TextInput } from "@mantine/core";
import { useDisclosure, useLocalStorage } from "@mantine/hooks";
import { IconBookmark, IconTrash } from "@tabler/icons-react";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import type { Search as SearchOf } from "~/shell/search";
import { text } from "~/text";
import { DEVICE_SEARCH } from "./routes";

const words = text.devices;
const MOST = 50;

type Search = SearchOf<typeof DEVICE_SEARCH>;
interface View {
  readonly name: string;
  readonly search: Search;
}

export function Views({ search }: { search: Search }) {
  const [opened, { toggle, close }] = useDisclosure();
  const [views, setViews] = useLocalStorage<readonly View[]>({ key: "aidos.device-views", defaultValue: [] });
  const [name, setName] = useState("");
  const save = () => {
    if (!name.trim()) return;
    setViews((before) => [{ name: name.trim().slice(0, 80), search }, ...before.filter((view) => view.name !== name.trim())].slice(0, MOST));
    setName("");
  };
  return (
    <Popover opened={opened} onChange={(open) => !open && close()} position="bottom-end" width={290} trapFocus withinPortal={false}>
      <Popover.Target><Button variant="default" leftSection={<IconBookmark size={15} />} aria-expanded={opened} onClick={toggle}>{words.views}</Button></Popover.Target>
      <Popover.Dropdown p={6}>
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
      </Popover.Dropdown>
    </Popover>
  );
}
