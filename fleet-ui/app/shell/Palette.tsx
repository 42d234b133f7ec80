/** Goes anywhere by typing: pages, devices, models. Loaded when it is first opened. */
import { Spotlight, spotlight, type SpotlightActionData } from "@mantine/spotlight";
import "@mantine/spotlight/styles.css";
import { IconBox, IconServer2 } from "@tabler/icons-react";
import { useDebouncedValue } from "@mantine/hooks";
import { useNavigate } from "@tanstack/react-router";
import { useEffect, useState } from "react";
import { api } from "~/api/client";
import { text } from "~/text";
import { NAVIGATION } from "./navigation";

const FOUND = 6;

export default function Palette({ close }: { close: () => void }) {
  const navigate = useNavigate();
  const [query, setQuery] = useState("");
  const [settled] = useDebouncedValue(query.trim(), 200);
  const searched = { enabled: settled.length > 0, staleTime: 10_000 };
  const devices = api.useQuery("get", "/api/v1/devices", { params: { query: { q: settled, limit: FOUND } } }, searched);
  const models = api.useQuery("get", "/api/v1/models", { params: { query: { search: settled, limit: FOUND } } }, searched);
  useEffect(() => spotlight.open(), []);

  const actions: SpotlightActionData[] = [
    ...NAVIGATION.filter(({ label }) => label.toLowerCase().includes(query.toLowerCase().trim())).map(({ to, label, icon: Icon }) => ({
      id: to, label, leftSection: <Icon size={18} aria-hidden />, onClick: () => void navigate({ to }),
    })),
    ...(searched.enabled ? devices.data?.items ?? [] : []).map((device) => ({
      id: device.id, label: device.name.slice(0, 80), description: text.shell.nav.devices, leftSection: <IconServer2 size={18} aria-hidden />,
      onClick: () => void navigate({ to: "/devices/$device", params: { device: device.id } }),
    })),
    ...(searched.enabled ? models.data?.items ?? [] : []).map((model) => ({
      id: `model:${model.name}`, label: model.name, description: text.shell.nav.models, leftSection: <IconBox size={18} aria-hidden />,
      onClick: () => void navigate({ to: "/models/$model", params: { model: model.name } }),
    })),
  ];
  return (
    <Spotlight
      actions={actions}
      query={query}
      onQueryChange={setQuery}
      filter={(_, all) => all}
      shortcut={null}
      nothingFound={text.shell.paletteNothing}
      searchProps={{ placeholder: text.shell.palettePlaceholder, "aria-label": text.shell.palette, leftSection: null }}
      onSpotlightClose={close}
    />
  );
}
