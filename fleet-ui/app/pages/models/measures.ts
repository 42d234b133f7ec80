/** Which of a device's metrics are about a model, and about which version of it. Pure. */
export const MEASURES = ["requests", "errors", "failures", "p50_us", "p90_us", "p95_us", "p99_us", "drift"] as const;
export type Measure = (typeof MEASURES)[number];

export interface Measured {
  readonly measure: Measure;
  readonly metrics: readonly { readonly name: string; readonly version?: string }[];
}

/** Metrics named `model.<model>.<measure>` and `model.<model>.<version>.<measure>`, by what they measure. */
export function byMeasure(model: string, names: readonly string[]): Measured[] {
  const prefix = `model.${model}.`;
  const found = new Map<Measure, { name: string; version?: string }[]>();
  for (const name of names) {
    if (!name.startsWith(prefix)) continue;
    const parts = /^(?:(\d+)\.)?([a-z0-9_]+)$/.exec(name.slice(prefix.length));
    const measure = MEASURES.find((one) => one === parts?.[2]);
    if (!parts || !measure) continue;
    found.set(measure, [...(found.get(measure) ?? []), parts[1] ? { name, version: parts[1] } : { name }]);
  }
  return MEASURES.flatMap((measure) => {
    const metrics = found.get(measure);
    return metrics ? [{ measure, metrics: metrics.sort((a, b) => Number(a.version ?? 0) - Number(b.version ?? 0)) }] : [];
  });
}
