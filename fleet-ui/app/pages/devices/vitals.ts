/** Which metrics are drawn together, and which span of time. Pure. */
import { text } from "~/text";

const words = text.devices.vitals;

export interface Panel {
  readonly title: string;
  readonly metrics: readonly string[];
  readonly max?: number;
}

/** The panels that there is something to draw for, from the names of a device's metrics. */
export function panelsOf(names: readonly string[]): Panel[] {
  const has = (...wanted: string[]) => wanted.filter((name) => names.includes(name));
  const like = (pattern: RegExp) => names.filter((name) => pattern.test(name)).sort();
  const panels: Panel[] = [
    { title: words.cpu, metrics: has("cpu.percent"), max: 100 },
    { title: words.memory, metrics: has("memory.used_bytes") },
    { title: words.disk, metrics: has("disk.used_bytes") },
    { title: words.temperature, metrics: [...has("temperature.max_c"), ...like(/^gpu\.\d+\.temperature_c$/)] },
    { title: words.network, metrics: has("network.received_bytes_per_s", "network.sent_bytes_per_s") },
    { title: words.roundTrip, metrics: has("link.rtt_ms") },
    { title: words.linkTraffic, metrics: has("link.received_bytes_per_s", "link.sent_bytes_per_s") },
    { title: words.spool, metrics: has("spool.waiting_samples") },
    { title: words.load, metrics: has("load.1m", "load.5m", "load.15m") },
    { title: words.gpu, metrics: like(/^gpu\.\d+\.percent$/), max: 100 },
    { title: words.gpuMemory, metrics: like(/^gpu\.\d+\.memory_used_bytes$/) },
    { title: words.battery, metrics: like(/^battery\.percent$/), max: 100 },
    { title: words.agent, metrics: has("agent.rss_bytes") },
    { title: words.latency, metrics: like(/^model\..+\.p90_us$/).slice(0, 8) },
  ];
  return panels.filter(({ metrics }) => metrics.length > 0);
}

export const SECONDS = { "15m": 900, "1h": 3_600, "6h": 21_600, "24h": 86_400, "7d": 604_800, "30d": 2_592_000 } as const;

/** The span that is shown, in seconds since the epoch: the one that was drawn, or up to now. */
export function spanOf(search: { from?: string | undefined; to?: string | undefined; range?: keyof typeof SECONDS | undefined }, nowMs: number): { from: number; to: number; live: boolean } {
  const [from, to] = [Number(search.from), Number(search.to)];
  if (Number.isFinite(from) && Number.isFinite(to) && from > 0 && to > from) return { from, to, live: false };
  const end = Math.ceil(nowMs / 10_000) * 10;
  return { from: end - SECONDS[search.range ?? "1h"], to: end, live: true };
}

/** `values` in groups of at most `most`, as many as the control plane answers at once. */
export function groups<T>(values: readonly T[], most: number): T[][] {
  return Array.from({ length: Math.ceil(values.length / most) }, (_, index) => values.slice(index * most, (index + 1) * most));
}

/** Seconds since the epoch as a `datetime-local` field has them, in the browser's time zone; and back. */
export function toLocal(seconds: number): string {
  const date = new Date(seconds * 1_000);
  return new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

export function fromLocal(local: string): number | undefined {
  const at = new Date(local).getTime();
  return local && Number.isFinite(at) ? Math.floor(at / 1_000) : undefined;
}
