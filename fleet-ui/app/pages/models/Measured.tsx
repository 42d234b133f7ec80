/** How each version of a model does on one device over time: requests, errors, latency, drift, from the device's telemetry. */
import { SegmentedControl, Select, Skeleton, Stack } from "@mantine/core";
import { getRouteApi } from "@tanstack/react-router";
import { useMemo } from "react";
import { api } from "~/api/client";
import { text } from "~/text";
import { Chart } from "~/ui/Chart";
import { useNow } from "~/ui/clock";
import { ErrorPanel } from "~/ui/ErrorPanel";
import { unitOf } from "~/ui/format";
import { Empty, Section } from "~/ui/Section";
import { byMeasure } from "./measures";
import { RANGES } from "./routes";
import { useRunningDevices } from "./useRunningDevices";

const words = text.models;
const route = getRouteApi("/shell/models/$model");
const HOURS: Record<(typeof RANGES)[number], number> = { "1h": 1, "6h": 6, "24h": 24, "7d": 168, "30d": 720 };
const POINTS = 400;
const METRICS = 16;

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
  const metric = measures.flatMap(({ metrics }) => metrics.map(({ name }) => name)).slice(0, METRICS).join(",");
  const range = api.useQuery(
    "get", "/api/v1/devices/{device}/telemetry",
    { params: { path: { device }, query: { metric, from: from * 1_000_000, to: to * 1_000_000, points: POINTS } } },
    { enabled: metric !== "" },
  );
  if (known.error && !known.data) return <ErrorPanel error={known.error} retry={known.refetch} />;
  if (known.data && measures.length === 0) return <Empty title={text.ui.noData} />;
  if (!range.data) return range.error ? <ErrorPanel error={range.error} retry={range.refetch} /> : <Skeleton height={240} />;
  const points = new Map(range.data.series.map((one) => [one.metric, one.points.map(({ at, avg }) => ({ at, value: avg }))]));
  return (
    <div className="charts">
      {measures.map(({ measure, metrics }) => (
        <Chart key={measure} title={words.measures[measure]} range={[from, to]} unit={unitOf(metrics[0]!.name)} series={metrics.map(({ name, version }) => ({ name: version ? `${words.version} ${version}` : words.all, points: points.get(name) ?? [] }))} />
      ))}
    </div>
  );
}
