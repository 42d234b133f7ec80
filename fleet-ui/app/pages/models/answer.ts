/** What a model answered, for people: labels best first where the manifest names them. Pure. */
export interface Output {
  readonly name: string;
  readonly shape: readonly number[];
  readonly datatype: string;
  readonly data: readonly unknown[];
}

export interface Ranked {
  readonly label: string;
  readonly value: number;
}

/** The first row of `output` by label, best first; `undefined` where it is not one number per label. */
export function rank(output: Output | undefined, labels: readonly string[]): Ranked[] | undefined {
  if (!output || labels.length === 0 || output.shape.at(-1) !== labels.length) return undefined;
  const values = output.data.flat(Infinity).slice(0, labels.length);
  if (!values.every((value) => typeof value === "number")) return undefined;
  return labels.map((label, at) => ({ label, value: values[at] as number })).sort((a, b) => b.value - a.value);
}
