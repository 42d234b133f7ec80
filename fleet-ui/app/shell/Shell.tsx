/** The frame around every page: navigation, header, the banner when nothing is live, palette and shortcuts. */
import { ActionIcon, AppShell, Burger, Button, Group, Kbd, Menu, Modal, SegmentedControl, Text, Tooltip, useMantineColorScheme } from "@mantine/core";
import { useDisclosure, useHotkeys } from "@mantine/hooks";
import { IconKeyboard, IconSearch, IconUser } from "@tabler/icons-react";
import { Link, Outlet, useNavigate, useRouterState } from "@tanstack/react-router";
import { lazy, Suspense, useEffect, useRef, useState, useSyncExternalStore, type JSX } from "react";
import { http } from "~/api/client";
import { session } from "~/api/session";
import { text } from "~/text";
import { Name } from "~/ui/Name";
import { StateBadge } from "~/ui/StateBadge";
import { LinkBanner } from "./LinkBanner";
import { live, useLink } from "./live";
import { NAVIGATION } from "./navigation";
import { queries } from "./queries";

const Palette = lazy(() => import("./Palette"));

/** How long after `g` its letter may come. */
const CHORD_MS = 1_200;

export function Shell(): JSX.Element {
  const [menu, { toggle, close }] = useDisclosure();
  const [keys, shortcuts] = useDisclosure();
  const [palette, setPalette] = useState(false);
  const navigate = useNavigate();
  const me = useSyncExternalStore(session.subscribe, session.get);
  const href = useRouterState({ select: (state) => state.location.href });
  const path = useRouterState({ select: (state) => state.location.pathname });
  const chord = useRef(0);

  useEffect(() => {
    live.start();
    return () => live.stop();
  }, []);
  useEffect(close, [path]);
  useEffect(() => {
    if (!me) void navigate({ to: "/sign-in", search: { from: href } });
  }, [me]);
  useHotkeys([
    ["mod+K", () => setPalette(true)],
    // Some keyboards have it without the shift key.
    ["?", () => shortcuts.open()],
    ["shift+?", () => shortcuts.open()],
    ["g", () => (chord.current = Date.now())],
    ["/", () => document.querySelector<HTMLInputElement>("main .filters input")?.focus()],
    ...NAVIGATION.map(({ letter, to }): [string, () => void] => [letter, () => {
      if (Date.now() - chord.current < CHORD_MS) void navigate({ to });
    }]),
  ]);

  const signOut = async () => {
    await http.DELETE("/api/v1/session").catch(() => undefined);
    live.stop();
    queries.clear();
    session.ended();
  };

  return (
    <AppShell header={{ height: 56 }} navbar={{ width: 220, breakpoint: "sm", collapsed: { mobile: !menu } }} padding={{ base: "md", sm: "xl" }}>
      <a className="skip" href="#content">{text.shell.skip}</a>
      <AppShell.Header>
        <Group h="100%" px="md" justify="space-between" wrap="nowrap">
          <Group gap="sm" wrap="nowrap">
            <Burger opened={menu} onClick={toggle} hiddenFrom="sm" size="sm" aria-label={menu ? text.shell.closeMenu : text.shell.menu} />
            <Link to="/" className="brand">
              <img src="/icon.svg" alt="" />
              {text.shell.product}
            </Link>
          </Group>
          <Group gap="xs" wrap="nowrap">
            <LinkState />
            <Button variant="default" size="xs" visibleFrom="sm" leftSection={<IconSearch size={15} />} onClick={() => setPalette(true)}>
              <span className="palette-key">{text.shell.palette} <Kbd size="xs">⌘K</Kbd></span>
            </Button>
            <ActionIcon variant="default" size={30} hiddenFrom="sm" aria-label={text.shell.palette} onClick={() => setPalette(true)}>
              <IconSearch size={16} />
            </ActionIcon>
            <Tooltip label={text.shell.shortcuts}>
              <ActionIcon variant="default" size={30} visibleFrom="sm" aria-label={text.shell.shortcuts} onClick={shortcuts.open}>
                <IconKeyboard size={16} />
              </ActionIcon>
            </Tooltip>
            <Menu position="bottom-end" width={250} trapFocus>
              <Menu.Target>
                <ActionIcon variant="default" size={30} aria-label={text.shell.user}>
                  <IconUser size={16} />
                </ActionIcon>
              </Menu.Target>
              <Menu.Dropdown>
                {me && (
                  <Menu.Item component={Link} to="/settings/about">
                    <Name>{me.key_name}</Name>
                    <Text size="xs" className="dim">{me.tenant.name} · {text.shell.role[me.role]}</Text>
                  </Menu.Item>
                )}
                <Menu.Divider />
                <Menu.Label>{text.shell.theme.label}</Menu.Label>
                <Theme />
                <Menu.Divider />
                <Menu.Item onClick={() => void signOut()}>{text.shell.signOut}</Menu.Item>
              </Menu.Dropdown>
            </Menu>
          </Group>
        </Group>
      </AppShell.Header>
      <AppShell.Navbar p="sm" aria-label={text.shell.navigation}>
        {NAVIGATION.map(({ to, label, icon: Icon }) => (
          <Link key={to} to={to} className="nav-link" activeOptions={{ exact: to === "/", includeSearch: false }}>
            <Icon size={18} stroke={1.6} aria-hidden />
            {label}
          </Link>
        ))}
      </AppShell.Navbar>
      <AppShell.Main className="shell-main" id="content" tabIndex={-1}>
        <LinkBanner />
        <div className="page">
          <Outlet />
        </div>
      </AppShell.Main>
      <Suspense>{palette && <Palette close={() => setPalette(false)} />}</Suspense>
      <Modal opened={keys} onClose={shortcuts.close} title={text.shell.shortcuts} closeButtonProps={{ "aria-label": text.ui.close }}>
        <table className="plain">
          <tbody>
            {text.shell.shortcutList.map(([key, what]) => (
              <tr key={key}>
                <td><Kbd>{key}</Kbd></td>
                <td>{what}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </Modal>
    </AppShell>
  );
}

function LinkState() {
  const link = useLink();
  if (link.kind === "live") return <StateBadge tone="good">{text.shell.live}</StateBadge>;
  return <StateBadge tone={link.kind === "lost" ? "warn" : "busy"}>{link.kind === "lost" ? text.shell.stale : text.shell.connecting}</StateBadge>;
}

function Theme() {
  const { colorScheme, setColorScheme } = useMantineColorScheme();
  const { light, dark, auto, label } = text.shell.theme;
  return (
    <SegmentedControl
      fullWidth
      size="xs"
      aria-label={label}
      value={colorScheme}
      onChange={(value) => setColorScheme(value as "light" | "dark" | "auto")}
      data={[{ value: "light", label: light }, { value: "dark", label: dark }, { value: "auto", label: auto }]}
    />
  );
}
