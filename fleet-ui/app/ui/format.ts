/** Numbers, units and times as people read them. Pure; texts by `Intl`. */
import { number, text } from "~/text";

const short = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });
const absolute = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "medium" });
const clock = new Intl.DateTimeFormat("en", { timeStyle: "medium" });
const BYTES = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
const STEPS: readonly [Intl.RelativeTimeFormatUnit, number][] = [
  ["year", 31_557_600], ["month", 2_629_800], ["day", 86_400], ["hour", 3_600], ["minute", 60], ["second", 1],
];

export function bytes(n: number): string {
  let step = 0;
  while (Math.abs(n) >= 1_024 && step < BYTES.length - 1) {
    n /= 1_024;
    step++;
  }
  return `${short.format(n)} ${BYTES[step]}`;
}

export const integer = (n: number): string => number.format(n);
export const decimal = (n: number): string => short.format(n);
export const percent = (n: number): string => `${short.format(n)} %`;

/** How long `seconds` are: `1 h 5 min`. */
export function duration(seconds: number): string {
  const parts: string[] = [];
  for (const [name, length] of [["d", 86_400], ["h", 3_600], ["min", 60], ["s", 1]] as const) {
    const n = Math.floor(seconds / length);
    if (n > 0 || (length === 1 && parts.length === 0)) parts.push(`${integer(n)} ${name}`);
    seconds -= n * length;
    if (parts.length === 2) break;
  }
  return parts.join(" ");
}

/** `at` seen from `now`, both in ms: `3 min. ago`, `in 2 days`. */
export function ago(at: number, now: number): string {
  const seconds = Math.round((at - now) / 1_000);
  // The present is up to ten seconds old: what happened since then is not yet to come.
  if (seconds > -5 && seconds <= 10) return text.ui.now;
  const [unit, length] = STEPS.find(([, step]) => Math.abs(seconds) >= step) ?? ["second", 1];
  return relative.format(Math.trunc(seconds / length), unit);
}

export const dateTime = (at: number): string => absolute.format(at);
export const timeOfDay = (at: number): string => clock.format(at);

/** The unit of a metric, as its name says it. */
export function unitOf(metric: string): (value: number) => string {
  if (metric.endsWith("bytes_per_s")) return (value) => `${bytes(value)}/s`;
  if (metric.endsWith("_bytes")) return bytes;
  if (metric.endsWith("percent")) return percent;
  if (metric.endsWith("_us")) return (value) => (value >= 1_000 ? `${short.format(value / 1_000)} ms` : `${short.format(value)} µs`);
  if (metric.endsWith("_ms")) return (value) => (value >= 1_000 ? `${short.format(value / 1_000)} s` : `${short.format(value)} ms`);
  if (metric.endsWith("_c")) return (value) => `${short.format(value)} °C`;
  return (value) => short.format(value);
}

/** What a gate measures, in its unit. */
export function gateValue(gate: string, value: number): string {
  if (/^p\d+/.test(gate)) return unitOf("x_us")(value);
  if (gate.startsWith("error_rate")) return percent(value * 100);
  if (gate.startsWith("memory")) return bytes(value);
  return new Intl.NumberFormat("en", { maximumSignificantDigits: 4 }).format(value);
}
