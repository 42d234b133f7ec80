/** What was done to a device, and by whom: also what its site did while it was offline. */
import { Select, Skeleton, Text } from "@mantine/core";
import { getRouteApi, Link } from "@tanstack/react-router";
import { api } from "~/api/client";
import { Events } from "~/pages/activity/Events";
import { text } from "~/text";
import { ErrorPanel } from "~/ui/ErrorPanel";
import { Section } from "~/ui/Section";
import { ACTIONS } from "./routes";

const words = text.devices;
const route = getRouteApi("/shell/devices/$device");

export function DeviceActivity({ id }: { id: string }) {
  const { action } = route.useSearch();
  const navigate = route.useNavigate();
  const activity = api.useQuery("get", "/api/v1/activity", { params: { query: { target: id, limit: 100, ...(action && { action }) } } });
  return (
    <Section title={words.tabs.activity} aside={<Link to="/activity" search={{ target: id, action }}>{text.overview.all}</Link>}>
      <div className="range">
        <Select
          size="xs" w={190} aria-label={text.activity.action} placeholder={words.anyAction} clearable clearButtonProps={{ "aria-label": text.ui.remove }} value={action ?? null} data={[...ACTIONS]}
          onChange={(value) => void navigate({ search: (before) => ({ ...before, action: ACTIONS.find((one) => one === value) }), replace: true, resetScroll: false })}
        />
      </div>
      {activity.error && !activity.data ? <ErrorPanel error={activity.error} retry={activity.refetch} /> : !activity.data ? <Skeleton height={200} /> : activity.data.items.length === 0 ? <Text size="sm" className="dim">{text.activity.none}</Text> : <Events items={activity.data.items} />}
    </Section>
  );
}
