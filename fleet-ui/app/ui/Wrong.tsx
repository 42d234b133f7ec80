/** What is wrong with what was typed, and the place in it where it is known. Stands as a field's `error`. */
import type { Objection } from "~/api/objection";

export function Wrong({ objection: { reason, excerpt } }: { objection: Objection }) {
  return (
    <>
      {excerpt && <span className="objection mono" dir="ltr">{excerpt}</span>}
      <bdi>{reason}</bdi>
    </>
  );
}
