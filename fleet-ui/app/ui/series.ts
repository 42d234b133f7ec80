/** What is drawn over time, and the columns that uPlot draws it from. Pure. */
import type { AlignedData } from "uplot";

export interface Series {
  readonly name: string;
  readonly points: readonly { readonly at: number; readonly value: number }[];
}

/** One column of times and one of values per series; what a series lacks at a time is a gap. */
export function align(series: readonly Series[]): AlignedData {
  const seconds = (at: number) => at / 1_000_000;
  const first = series[0]?.points ?? [];
  // As the control plane thins them: all at the same times.
  if (series.every(({ points }) => points.length === first.length && points.every(({ at }, index) => at === first[index]!.at))) {
    return [first.map(({ at }) => seconds(at)), ...series.map(({ points }) => points.map(({ value }) => value))];
  }
  const times = [...new Set(series.flatMap((one) => one.points.map((point) => point.at)))].sort((a, b) => a - b);
  const place = new Map(times.map((at, index) => [at, index]));
  const columns = series.map((one) => {
    const column: (number | null)[] = Array.from({ length: times.length }, () => null);
    for (const point of one.points) column[place.get(point.at)!] = point.value;
    return column;
  });
  return [times.map(seconds), ...columns];
}
