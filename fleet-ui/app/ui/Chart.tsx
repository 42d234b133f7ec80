/**
 * Series over time by uPlot: drag to zoom, double-click to see all, values under the cursor.
 *
 * Colours come from the theme's variables, so that it is drawn anew when the scheme changes. Its table of newest values is what
 * people read who do not see the canvas.
 */
import { useComputedColorScheme } from "@mantine/core";
import { useEffect, useMemo, useRef } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { text } from "~/text";
import { align, type Series } from "./series";

interface Props {
  readonly title: string;
  /** The same list for as long as its points are the same. */
  readonly series: readonly Series[];
  readonly unit: (value: number) => string;
  /** Seconds since the epoch. */
  readonly range?: readonly [number, number];
  readonly max?: number;
  readonly onZoom?: (from: number, to: number) => void;
  readonly height?: number;
}

const COLOURS = ["--chart-1", "--chart-2", "--chart-3", "--chart-4"];

export function Chart({ title, series, unit, range, max, onZoom, height = 150 }: Props) {
  const scheme = useComputedColorScheme("light");
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>(undefined);
  const zoom = useRef(onZoom);
  zoom.current = onZoom;
  const names = series.map((one) => one.name).join("\n");
  const empty = series.every((one) => one.points.length === 0);
  const data = useMemo(() => align(series), [series]);

  useEffect(() => {
    const element = host.current;
    if (!element || empty) return;
    const style = getComputedStyle(element);
    const colour = (name: string) => style.getPropertyValue(name).trim();
    const axis = { stroke: colour("--chart-text"), grid: { stroke: colour("--chart-grid"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
    const made = new uPlot(
      {
        width: element.clientWidth,
        height,
        cursor: { y: false, drag: { x: true, y: false } },
        legend: { live: true },
        scales: { x: { time: true }, y: { range: (_, low, high) => (max ? [0, max] : [Math.min(0, low), high <= 0 ? 1 : high * 1.1]) } },
        axes: [{ ...axis, space: 80 }, { ...axis, size: 68, space: 36, values: (_, values) => values.map(unit) }],
        series: [
          {},
          ...series.map((one, index) => ({
            label: one.name,
            stroke: colour(COLOURS[index % COLOURS.length]!),
            fill: series.length === 1 ? `${colour(COLOURS[0]!)}1f` : undefined,
            width: 1.5,
            // A line of one or two points is hardly seen.
            points: { show: (_: uPlot, __: number, first: number, last: number) => last - first < 2 },
            spanGaps: false,
            value: (_: uPlot, value: number | null) => (value === null || value === undefined ? text.ui.nothing : unit(value)),
          })),
        ],
        hooks: {
          setSelect: [
            (chart) => {
              if (chart.select.width > 4) zoom.current?.(chart.posToVal(chart.select.left, "x"), chart.posToVal(chart.select.left + chart.select.width, "x"));
            },
          ],
        },
      },
      data,
      element,
    );
    plot.current = made;
    const resize = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height }));
    resize.observe(element);
    return () => {
      resize.disconnect();
      made.destroy();
      plot.current = undefined;
    };
    // Data of the same series is set below without drawing anew.
  }, [scheme, names, empty, height, max]);

  useEffect(() => {
    plot.current?.setData(data, !range);
  }, [data]);

  // After new data too, so that the other axis is found anew, and after it was drawn anew, which shows all that there is.
  useEffect(() => {
    if (range) plot.current?.setScale("x", { min: range[0], max: range[1] });
  }, [data, range?.[0], range?.[1], scheme, names, height, max]);

  const newest = series.map((one) => one.points.at(-1)?.value);
  return (
    <figure className="chart">
      <figcaption>
        <span>{title}</span>
        <span className="nums chart-now">{newest.length === 1 && newest[0] !== undefined ? unit(newest[0]) : ""}</span>
      </figcaption>
      {empty ? <div className="chart-empty dim" style={{ height }}>{text.ui.noData}</div> : (
        <div
          ref={host}
          role="img"
          aria-label={`${text.ui.chart(title)}: ${series.map((one, index) => `${one.name} ${newest[index] === undefined ? text.ui.nothing : unit(newest[index]!)}`).join(", ")}`}
        />
      )}
    </figure>
  );
}
