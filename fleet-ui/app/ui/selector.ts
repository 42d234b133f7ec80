/**
 * What may stand next in a selector (`site=lab,zone!=2,site in (a,b),camera,!camera`), from the labels that were seen.
 *
 * The control plane has the last word on what a selector means; this only helps to write one.
 */
export type LabelsSeen = ReadonlyMap<string, ReadonlySet<string>>;

export function labelsSeen(devices: readonly { readonly labels: Readonly<Record<string, string>> }[]): LabelsSeen {
  const seen = new Map<string, Set<string>>();
  for (const { labels } of devices) {
    for (const [key, value] of Object.entries(labels)) {
      const values = seen.get(key) ?? new Set();
      values.add(value);
      seen.set(key, values);
    }
  }
  return seen;
}

/** Where the last term begins: after the last comma that is not inside of brackets. */
function lastTerm(selector: string): number {
  let depth = 0;
  let start = 0;
  for (let at = 0; at < selector.length; at++) {
    if (selector[at] === "(") depth++;
    else if (selector[at] === ")") depth--;
    else if (selector[at] === "," && depth === 0) start = at + 1;
  }
  return start;
}

/** Whole selectors that `selector` could become, at most `most`. */
export function complete(selector: string, seen: LabelsSeen, most = 12): string[] {
  const start = lastTerm(selector);
  const before = selector.slice(0, start);
  const term = selector.slice(start).trimStart();
  const found: string[] = [];
  const set = /^([^\s=!()]+)\s+(in|notin)\s+\(([^)]*)$/.exec(term);
  const comparison = /^([^\s=!()]+)\s*(==|!=|=)\s*(.*)$/.exec(term);
  if (set) {
    const [, key = "", operator, list = ""] = set;
    const parts = list.split(",");
    const partial = (parts.pop() ?? "").trim();
    const head = parts.map((part) => part.trim());
    for (const value of seen.get(key) ?? []) {
      if (!value.startsWith(partial) || head.includes(value)) continue;
      found.push(`${before}${key} ${operator} (${[...head, value].join(",")})`);
    }
  } else if (comparison) {
    const [, key = "", operator, partial = ""] = comparison;
    for (const value of seen.get(key) ?? []) if (value.startsWith(partial)) found.push(`${before}${key}${operator}${value}`);
  } else {
    const not = term.startsWith("!") ? "!" : "";
    const partial = term.slice(not.length);
    for (const [key, values] of seen) {
      if (!key.startsWith(partial)) continue;
      if (not) found.push(`${before}!${key}`);
      else if (values.size > 0) found.push(`${before}${key}=`);
    }
  }
  return found.filter((option) => option !== selector).sort().slice(0, most);
}
