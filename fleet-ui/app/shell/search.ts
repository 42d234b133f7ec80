/** Reads search parameters of the URL: what is not as expected is left out, never an error. */

/** A parameter's name → any text, or one of these words. */
type Shape = Readonly<Record<string, "text" | readonly string[]>>;

export type Search<S extends Shape> = { [K in keyof S]?: (S[K] extends readonly (infer Word)[] ? Word : string) | undefined };

/** For a route's `validateSearch`. */
export function search<const S extends Shape>(shape: S): (given: Record<string, unknown>) => Search<S> {
  return (given) => {
    const found: Record<string, string> = {};
    for (const [name, wanted] of Object.entries(shape)) {
      const value = given[name];
      const text = typeof value === "number" ? String(value) : value;
      if (typeof text === "string" && text !== "" && (wanted === "text" || wanted.includes(text))) found[name] = text;
    }
    return found as Search<S>;
  };
}
