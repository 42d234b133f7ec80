import { act, useState } from "react";
import { createRoot, type Root } from "react-dom/client";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import type { PlanForm } from "./plan";
import type { PlanSearch } from "./planSearch";
import { usePlanForm } from "./usePlanForm";

let root: Root;
let form: PlanForm;
let type: (form: PlanForm) => void;
let address: PlanSearch;
let go: (search: PlanSearch) => void;
const changed = vi.fn();

function Form({ initial }: { initial: PlanSearch }) {
  const [search, setSearch] = useState(initial);
  [address, go] = [search, setSearch];
  [form, type] = usePlanForm(search, (said) => {
    changed(said);
    setSearch(said);
  });
  return null;
}

beforeEach(() => {
  Object.assign(globalThis, { IS_REACT_ACT_ENVIRONMENT: true });
  vi.useFakeTimers();
  changed.mockClear();
  root = createRoot(document.createElement("div"));
});
afterEach(() => {
  act(() => root.unmount());
  vi.useRealTimers();
});

const later = () => act(() => vi.advanceTimersByTime(1_000));

it("begins as the address says, and writes into it once what was typed has settled", () => {
  act(() => root.render(<Form initial={{ waves: "5%,100%" }} />));
  expect(form.waves).toBe("5%,100%");
  act(() => type({ ...form, soakMinutes: 3 }));
  act(() => type({ ...form, soakMinutes: 30 }));
  expect(changed).not.toHaveBeenCalled();
  later();
  expect(changed).toHaveBeenCalledTimes(1);
  expect(address).toMatchObject({ waves: "5%,100%", soakMinutes: 30 });
});

it("keeps what is typed while its own echo comes back, and takes another address", () => {
  act(() => root.render(<Form initial={{}} />));
  act(() => type({ ...form, gates: "p95<2x" }));
  act(() => {
    vi.advanceTimersByTime(1_000);
    type({ ...form, gates: "p95<2x\nself_test=pass" });
  });
  expect(form.gates).toBe("p95<2x\nself_test=pass");
  later();
  expect(address.gates).toBe("p95<2x\nself_test=pass");
  act(() => go({ approve: true }));
  later();
  expect([form.approve, form.gates]).toEqual([true, "error_rate<1%\np95<1.5x"]);
  expect(address).toEqual({ approve: true });
});

it("writes nothing once it is gone", () => {
  act(() => root.render(<Form initial={{}} />));
  act(() => type({ ...form, priority: 5 }));
  act(() => root.render(null));
  later();
  expect(changed).not.toHaveBeenCalled();
});
