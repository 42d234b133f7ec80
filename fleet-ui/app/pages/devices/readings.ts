/** What a device's newest readings say of its link and of the telemetry that waits there. Pure. */
export const LINK_METRICS = {
  roundTrip: "link.rtt_ms", sent: "link.sent_bytes_per_s", received: "link.received_bytes_per_s", samples: "spool.waiting_samples", bytes: "spool.waiting_bytes",
} as const;

export type LinkReadings = { readonly [reading in keyof typeof LINK_METRICS]?: number };

/** Nothing of a device that is not online: its newest readings are from before. */
export function linkReadings(metrics: readonly { readonly name: string; readonly value?: number | null }[], online: boolean): LinkReadings {
  if (!online) return {};
  const values = new Map(metrics.map(({ name, value }) => [name, value]));
  return Object.fromEntries(Object.entries(LINK_METRICS).flatMap(([reading, name]) => {
    const value = values.get(name);
    return value == null ? [] : [[reading, value]];
  }));
}
