/** Two people edited the same fields: what can be put together, and what only a person can decide. Pure. */

/** Fields by their names; `undefined`: it is not there. */
export type Fields = Readonly<Record<string, string>>;

export interface Clash {
  readonly key: string;
  readonly mine: string | undefined;
  readonly theirs: string | undefined;
}

export interface Merge {
  /** Theirs with what only I changed. */
  readonly merged: Fields;
  /** What both changed, to different values. */
  readonly clashes: readonly Clash[];
}

export function merge(base: Fields, mine: Fields, theirs: Fields): Merge {
  const merged: Record<string, string> = { ...theirs };
  const clashes: Clash[] = [];
  for (const key of new Set([...Object.keys(base), ...Object.keys(mine), ...Object.keys(theirs)])) {
    const [was, my, their] = [base[key], mine[key], theirs[key]];
    if (my === was || my === their) continue;
    if (their === was) put(merged, key, my);
    else clashes.push({ key, mine: my, theirs: their });
  }
  return { merged, clashes: clashes.sort((a, b) => a.key.localeCompare(b.key)) };
}

/** `merged` with one side's value for each clash. */
export function settle({ merged, clashes }: Merge, choice: (key: string) => "mine" | "theirs"): Fields {
  const settled: Record<string, string> = { ...merged };
  for (const clash of clashes) put(settled, clash.key, clash[choice(clash.key)]);
  return settled;
}

/** What has to be said to bring `from` to `to`: a value to set, or `null` to remove. */
export function patch(from: Fields, to: Fields): Record<string, string | null> {
  const said: Record<string, string | null> = {};
  for (const [key, value] of Object.entries(to)) if (from[key] !== value) said[key] = value;
  for (const key of Object.keys(from)) if (!Object.hasOwn(to, key)) said[key] = null;
  return said;
}

function put(fields: Record<string, string>, key: string, value: string | undefined): void {
  if (value === undefined) delete fields[key];
  else fields[key] = value;
}
