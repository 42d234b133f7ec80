/** The pages of settings; those that the role may not see are not there. */
import { Tabs } from "@mantine/core";
import { getRouteApi, useNavigate } from "@tanstack/react-router";
import type { ComponentType } from "react";
import { session, type Role } from "~/api/session";
import { text } from "~/text";
import { PageHead } from "~/ui/Section";
import { About } from "./About";
import { Agents } from "./Agents";
import { Keys } from "./Keys";
import { TABS, type Tab } from "./routes";
import { Tenants } from "./Tenants";
import { Tokens } from "./Tokens";
import { Trust } from "./Trust";

const words = text.settings;
const route = getRouteApi("/shell/settings/$tab");

const PAGES: Record<Tab, { readonly page: ComponentType; readonly role: Role }> = {
  keys: { page: Keys, role: "owner" },
  tokens: { page: Tokens, role: "operator" },
  tenants: { page: Tenants, role: "viewer" },
  trust: { page: Trust, role: "viewer" },
  agents: { page: Agents, role: "viewer" },
  about: { page: About, role: "viewer" },
};

export function Settings() {
  const params = route.useParams();
  const navigate = useNavigate();
  const allowed = TABS.filter((tab) => session.may(PAGES[tab].role));
  const tab = allowed.find((one) => one === params.tab) ?? "about";
  const Page = PAGES[tab].page;
  return (
    <>
      <PageHead title={`${words.title}: ${words.tabs[tab]}`} heading={words.title} />
      <Tabs value={tab} onChange={(value) => void navigate({ to: "/settings/$tab", params: { tab: value ?? "about" } })}>
        <Tabs.List mb="md">
          {allowed.map((value) => <Tabs.Tab key={value} value={value}>{words.tabs[value]}</Tabs.Tab>)}
        </Tabs.List>
        <Tabs.Panel value={tab}><Page /></Tabs.Panel>
      </Tabs>
    </>
  );
}
