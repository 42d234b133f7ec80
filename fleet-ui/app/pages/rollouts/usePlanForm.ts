/** The form of a plan of one's own. What is typed stands in the address a moment later; another address fills the form anew. */
import { useDebouncedValue } from "@mantine/hooks";
import { useEffect, useRef, useState } from "react";
import type { PlanForm } from "./plan";
import { formOf, searchOf, type PlanSearch } from "./planSearch";

/** Browsers refuse an address that changes with each key. */
const SETTLE_MS = 300;

const keyOf = (form: PlanForm) => JSON.stringify(searchOf(form));

/** `change` writes into the address. */
export function usePlanForm(search: PlanSearch, change: (search: PlanSearch) => void) {
  const [form, setForm] = useState(() => formOf(search));
  const [settled] = useDebouncedValue(form, SETTLE_MS);
  const key = keyOf(formOf(search));
  /** What the address said last as far as this form knows: its own echo must not undo what was typed meanwhile. */
  const known = useRef(key);
  useEffect(() => {
    if (keyOf(settled) === known.current) return;
    known.current = keyOf(settled);
    change(searchOf(settled));
  }, [settled]);
  useEffect(() => {
    if (key === known.current) return;
    known.current = key;
    setForm(formOf(search));
  }, [key]);
  return [form, setForm] as const;
}
