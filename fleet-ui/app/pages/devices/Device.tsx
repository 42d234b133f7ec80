/** One device: what it is, how it is, what is wanted of it, and what a person can do with it. */
import { Skeleton, Tabs } from "@mantine/core";
import { getRouteApi } from "@tanstack/react-router";
import { lazy, Suspense } from "react";
import { api } from "~/api/client";
import { session } from "~/api/session";
import { text } from "~/text";
import { ErrorPanel } from "~/ui/ErrorPanel";
import { Name } from "~/ui/Name";
import { Empty, PageHead } from "~/ui/Section";
import { StateBadge } from "~/ui/StateBadge";
import { About, Machine } from "./About";
import { Actions } from "./Actions";
import { Commands } from "./Commands";
import { DeviceActivity } from "./DeviceActivity";
import "./devices.css";
import { STATE_TONES } from "./Devices";
import { Logs } from "./Logs";
import { Models } from "./Models";
import { Notes } from "./Notes";
import { TABS } from "./routes";
import { Twin } from "./Twin";
import { Updates } from "./Updates";

const Vitals = lazy(async () => ({ default: (await import("./Vitals")).Vitals }));
const words = text.devices;
const route = getRouteApi("/shell/devices/$device");

export function Device() {
  const { device: id } = route.useParams();
  const { tab = "vitals" } = route.useSearch();
  const navigate = route.useNavigate();
  const device = api.useQuery("get", "/api/v1/devices/{device}", { params: { path: { device: id } } });
  if (device.error && !device.data) return <ErrorPanel error={device.error} retry={device.refetch} />;
  const view = device.data;
  if (!view) return <Skeleton height={360} />;

  return (
    <>
      <PageHead title={view.name} heading={<><Name lines={2}>{view.name}</Name> <StateBadge tone={STATE_TONES[view.state]}>{words.states[view.state]}</StateBadge>{view.drained_at != null && <> <StateBadge tone="warn">{words.drained}</StateBadge></>}</>}>
        {session.may("operator") && <Actions device={view} />}
      </PageHead>
      <div className="grid">
        <div className="span-8">
          {view.state === "offline" && !view.last_seen_at && <div className="section" style={{ marginBottom: 16 }}><Empty title={words.neverRan} lead={words.neverRanLead} command="aidos-agent run" /></div>}
          <Tabs value={tab} keepMounted={false} onChange={(value) => void navigate({ search: (before) => ({ ...before, tab: TABS.find((one) => one === value) }), replace: true, resetScroll: false })}>
            <Tabs.List mb="md" className="tabs">
              {TABS.map((value) => <Tabs.Tab key={value} value={value}>{words.tabs[value]}</Tabs.Tab>)}
            </Tabs.List>
            <Tabs.Panel value="vitals"><Suspense fallback={<Skeleton height={360} />}><Vitals id={id} /></Suspense></Tabs.Panel>
            <Tabs.Panel value="models"><Models device={view} /></Tabs.Panel>
            <Tabs.Panel value="twin"><Twin device={view} /></Tabs.Panel>
            <Tabs.Panel value="updates"><Updates id={id} /></Tabs.Panel>
            <Tabs.Panel value="logs"><Logs device={view} /></Tabs.Panel>
            <Tabs.Panel value="commands"><Commands id={id} /></Tabs.Panel>
            <Tabs.Panel value="activity"><DeviceActivity id={id} /></Tabs.Panel>
          </Tabs>
        </div>
        <div className="span-4 stack">
          <About device={view} />
          <Notes device={view} />
          <Machine device={view} />
        </div>
      </div>
    </>
  );
}
