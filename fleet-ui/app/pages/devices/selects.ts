/**
 * Whether a selector chooses a device, by its labels as they are now. Pure.
 *
 * Follows the control plane's grammar (protocol/src/selector.rs); what cannot be read chooses nothing.
 */

type Labels = Readonly<Record<string, string>>;

/** Splits at commas that are not inside of brackets. */
function terms(selector: string): string[] {
  const found: string[] = [];
  let depth = 0;
  let start = 0;
  for (let at = 0; at <= selector.length; at++) {
    if (selector[at] === "(") depth++;
    else if (selector[at] === ")") depth--;
    else if (at === selector.length || (selector[at] === "," && depth === 0)) {
      found.push(selector.slice(start, at).trim());
      start = at + 1;
    }
  }
  return found;
}

function holds(term: string, labels: Labels): boolean {
  const value = (key: string) => (Object.hasOwn(labels, key) ? labels[key] : undefined);
  const set = /^([^\s=!(),]+)\s+(in|notin)\s*\(([^()]*)\)$/.exec(term);
  if (set) {
    const [, key = "", operator, list = ""] = set;
    const among = list.split(",").map((part) => part.trim()).includes(value(key) ?? "\0");
    return operator === "in" ? among : !among;
  }
  const comparison = /^([^\s=!(),]+)\s*(==|!=|=)\s*([^\s=!(),]*)$/.exec(term);
  if (comparison) {
    const [, key = "", operator, wanted] = comparison;
    return (value(key) === wanted) === (operator !== "!=");
  }
  const presence = /^(!?)\s*([^\s=!(),]+)$/.exec(term);
  return presence !== null && (value(presence[2] ?? "") !== undefined) === (presence[1] === "");
}

export function selects(selector: string, labels: Labels): boolean {
  const whole = selector.trim();
  return whole === "" || whole === "*" || whole === "all" || terms(whole).every((term) => holds(term, labels));
}
