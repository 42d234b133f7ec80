/** The device's measurements over time. Drag over a chart to look closer; the span stands in the address. */
import { Skeleton } from "@mantine/core";
import { getRouteApi } from "@tanstack/react-router";
import { useMemo } from "react";
import { text } from "~/text";
import { Chart } from "~/ui/Chart";
import { useNow } from "~/ui/clock";
import { ErrorPanel } from "~/ui/ErrorPanel";
import { unitOf } from "~/ui/format";
import { Empty, Section } from "~/ui/Section";
import type { Series } from "~/ui/series";
import { RangePicker } from "./RangePicker";
import { useReadings } from "./useReadings";
import { useTelemetry } from "./useTelemetry";
import { panelsOf, spanOf } from "./vitals";

const words = text.devices;
const route = getRouteApi("/shell/devices/$device");

export function Vitals({ id }: { id: string }) {
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const now = useNow();
  const span = spanOf(search, now);
  const { from, to } = span;
  const known = useTelemetry(id);
  const names = (known.data?.metrics ?? []).map(({ name }) => name).join("\n");
  const panels = useMemo(() => panelsOf(names.split("\n")), [names]);
  const read = useReadings(id, panels.flatMap(({ metrics }) => metrics), from, to);
  const change = (changed: Partial<typeof search>) => void navigate({ search: (before) => ({ ...before, ...changed }), replace: true, resetScroll: false });
  const show = (begin: number, end: number) => change({ from: String(Math.floor(begin)), to: String(Math.ceil(end)) });

  // The same lists from one drawing to the next, so that a chart takes its data once.
  const drawn = useMemo(() => panels.map((panel) => panel.metrics.map((name): Series => ({ name, points: read.data?.get(name) ?? [] }))), [panels, read.data]);
  const error = read.data ? undefined : read.error;

  if (known.error && !known.data) return <ErrorPanel error={known.error} retry={known.refetch} />;
  return (
    <Section title={words.tabs.vitals}>
      <RangePicker span={span} range={search.range ?? "1h"} onRange={(range) => change({ range, from: undefined, to: undefined })} onSpan={show} />
      {error && <ErrorPanel error={error} retry={read.refetch} />}
      {known.data && panels.length === 0 && <Empty title={text.ui.noData} />}
      {!known.data || (panels.length > 0 && !read.data && !error) ? <Skeleton height={320} /> : (
        <div className="charts vitals">
          {panels.map((panel, index) => (
            <Chart
              key={panel.title} title={panel.title} series={drawn[index]!} unit={unitOf(panel.metrics[0]!)} range={[from, to]} onZoom={show}
              {...(panel.max && { max: panel.max })}
            />
          ))}
        </div>
      )}
    </Section>
  );
}
