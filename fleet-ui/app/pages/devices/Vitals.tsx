/** The device's measurements over time. Drag over a chart to look closer; the span stands in the address. */
import { Skeleton } from "@mantine/core";
import { keepPreviousData, useQueries } from "@tanstack/react-query";
import { getRouteApi } from "@tanstack/react-router";
import { useMemo } from "react";
import { api } from "~/api/client";
import { text } from "~/text";
import { Chart, type Series } from "~/ui/Chart";
import { useNow } from "~/ui/clock";
import { ErrorPanel } from "~/ui/ErrorPanel";
import { unitOf } from "~/ui/format";
import { Empty, Section } from "~/ui/Section";
import { RangePicker } from "./RangePicker";
import { useTelemetry } from "./useTelemetry";
import { groups, panelsOf, spanOf, type Panel } from "./vitals";

const words = text.devices;
const route = getRouteApi("/shell/devices/$device");
/** Points of a series: about two per pixel of a chart. */
const POINTS = 600;
/** That the control plane answers at once. */
const METRICS = 16;

export function Vitals({ id }: { id: string }) {
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const now = useNow();
  const span = spanOf(search, now);
  const { from, to } = span;
  const known = useTelemetry(id);
  const names = (known.data?.metrics ?? []).map(({ name }) => name).join("\n");
  const panels = useMemo(() => panelsOf(names.split("\n")), [names]);
  const asked = groups(panels.flatMap(({ metrics }) => metrics), METRICS);
  const read = useQueries({
    queries: asked.map((metrics) => ({
      ...api.queryOptions("get", "/api/v1/devices/{device}/telemetry", { params: { path: { device: id }, query: { metric: metrics.join(","), from: from * 1_000_000, to: to * 1_000_000, points: POINTS } } }),
      placeholderData: keepPreviousData, gcTime: 60_000,
    })),
  });
  const change = (changed: Partial<typeof search>) => void navigate({ search: (before) => ({ ...before, ...changed }), replace: true, resetScroll: false });
  const show = (begin: number, end: number) => change({ from: String(Math.floor(begin)), to: String(Math.ceil(end)) });

  const answers = read.map(({ data }) => data);
  const series = useMemo(() => new Map(answers.flatMap((data) => data?.series ?? []).map((one) => [one.metric, one.points.map(({ at, avg }) => ({ at, value: avg }))])), answers);
  const seriesOf = ({ metrics }: Panel): Series[] => metrics.map((name) => ({ name, points: series.get(name) ?? [] }));
  const error = read.find((one) => one.error && !one.data)?.error;

  if (known.error && !known.data) return <ErrorPanel error={known.error} retry={known.refetch} />;
  return (
    <Section title={words.tabs.vitals}>
      <RangePicker span={span} range={search.range ?? "1h"} onRange={(range) => change({ range, from: undefined, to: undefined })} onSpan={show} />
      {error && <ErrorPanel error={error} retry={() => Promise.all(read.map((one) => one.refetch()))} />}
      {known.data && panels.length === 0 && <Empty title={text.ui.noData} />}
      {!known.data || (panels.length > 0 && !answers.some(Boolean) && !error) ? <Skeleton height={320} /> : (
        <div className="charts vitals">
          {panels.map((panel) => (
            <Chart
              key={panel.title} title={panel.title} series={seriesOf(panel)} unit={unitOf(panel.metrics[0]!)} range={[from, to]} onZoom={show}
              {...(panel.max && { max: panel.max })}
            />
          ))}
        </div>
      )}
    </Section>
  );
}
