/** Reads search parameters of the URL: what is not as expected is left out, never an error. */

interface Range {
  readonly min: number;
  readonly max: number;
}

/** A parameter's name → a text that is not empty, any text, yes or no, a number in a range, or one of these words. */
type Shape = Readonly<Record<string, "text" | "any text" | "flag" | Range | readonly string[]>>;

type Value<Wanted> = Wanted extends readonly (infer Word)[] ? Word : Wanted extends Range ? number : Wanted extends "flag" ? boolean : string;

export type Search<S extends Shape> = { [K in keyof S]?: Value<S[K]> | undefined };

/** For a route's `validateSearch`. */
export function search<const S extends Shape>(shape: S): (given: Record<string, unknown>) => Search<S> {
  return (given) => {
    const found: Record<string, unknown> = {};
    for (const [name, wanted] of Object.entries(shape)) {
      // The router lays this over what the URL says: what is left out here has to be named to be gone.
      if (Object.hasOwn(given, name)) found[name] = valueOf(wanted, given[name]);
    }
    return found as Search<S>;
  };
}

function valueOf(wanted: Shape[string], value: unknown): unknown {
  if (wanted === "flag") return typeof value === "boolean" ? value : undefined;
  if (typeof wanted === "object" && "min" in wanted) return typeof value === "number" && value >= wanted.min && value <= wanted.max ? value : undefined;
  const text = typeof value === "number" ? String(value) : value;
  if (typeof text !== "string" || (text === "" && wanted !== "any text")) return undefined;
  return typeof wanted === "string" || wanted.includes(text) ? text : undefined;
}
