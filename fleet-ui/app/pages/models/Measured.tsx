/** How each version of a model does on one device over time: requests, errors, latency, drift, from the device's telemetry. */
import { SegmentedControl, Select, Skeleton, Stack } from "@mantine/core";
import { getRouteApi } from "@tanstack/react-router";
import { useMemo } from "react";
import { api } from "~/api/client";
import { useReadings } from "~/pages/devices/useReadings";
import { text } from "~/text";
import { Chart } from "~/ui/Chart";
import { useNow } from "~/ui/clock";
import { ErrorPanel } from "~/ui/ErrorPanel";
import { unitOf } from "~/ui/format";
import { Empty, Section } from "~/ui/Section";
import type { Series } from "~/ui/series";
import { byMeasure } from "./measures";
import { RANGES } from "./routes";
import { useRunningDevices } from "./useRunningDevices";

const words = text.models;
const route = getRouteApi("/shell/models/$model");
const HOURS: Record<(typeof RANGES)[number], number> = { "1h": 1, "6h": 6, "24h": 24, "7d": 168, "30d": 720 };

export function Measured({ model }: { model: string }) {
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const { range = "24h" } = search;
  const devices = useRunningDevices(model);
  const device = search.device ?? devices.data?.[0]?.id;
  if (devices.error) return <ErrorPanel error={devices.error} />;
  if (!devices.data) return <Skeleton height={240} />;
  if (!device) return <div className="section"><Empty title={words.noDevice} command={`aidos deploy ${model}@1 --to site=lab`} /></div>;
  return (
    <Section title={words.tabs.measured}>
      <Stack>
        <Select label={words.device} searchable allowDeselect={false} value={device} data={devices.data.map(({ id, name, version }) => ({ value: id, label: words.deviceRuns(name.slice(0, 80), version) }))} onChange={(value) => void navigate({ search: (before) => ({ ...before, device: value ?? undefined }), replace: true })} maw={380} />
        <SegmentedControl
          size="xs" aria-label={text.devices.range} value={range} data={RANGES.map((value) => ({ value, label: value }))} style={{ alignSelf: "start" }}
          onChange={(value) => void navigate({ search: (before) => ({ ...before, range: RANGES.find((one) => one === value) }), replace: true })}
        />
        <Charts model={model} device={device} hours={HOURS[range]} />
      </Stack>
    </Section>
  );
}

function Charts({ model, device, hours }: { model: string; device: string; hours: number }) {
  const to = Math.ceil(useNow() / 60_000) * 60;
  const from = to - hours * 3_600;
  const known = api.useQuery("get", "/api/v1/devices/{device}/telemetry/metrics", { params: { path: { device } } });
  const measures = useMemo(() => byMeasure(model, known.data?.metrics.map(({ name }) => name) ?? []), [model, known.data]);
  const read = useReadings(device, measures.flatMap(({ metrics }) => metrics.map(({ name }) => name)), from, to);
  // The same lists from one drawing to the next, so that a chart takes its data once.
  const drawn = useMemo(() => measures.map(({ metrics }) => metrics.map(({ name, version }): Series => ({ name: version ? `${words.version} ${version}` : words.all, points: read.data?.get(name) ?? [] }))), [measures, read.data]);
  if (known.error && !known.data) return <ErrorPanel error={known.error} retry={known.refetch} />;
  if (known.data && measures.length === 0) return <Empty title={text.ui.noData} />;
  if (!read.data) return read.error ? <ErrorPanel error={read.error} retry={read.refetch} /> : <Skeleton height={240} />;
  return (
    <div className="charts">
      {measures.map(({ measure, metrics }, index) => <Chart key={measure} title={words.measures[measure]} range={[from, to]} unit={unitOf(metrics[0]!.name)} series={drawn[index]!} />)}
    </div>
  );
}
