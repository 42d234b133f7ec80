import { act } from "react";
import { createRoot, type Root } from "react-dom/client";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { TableRow, type ResourceColumn } from "./TableRow";

interface Thing {
  readonly id: string;
  readonly name: string;
}

const drawn = vi.fn(({ name }: Thing) => <b>{name}</b>);
const columns: readonly ResourceColumn<Thing>[] = [{ id: "name", header: "Name", width: "1fr", value: ({ name }) => name, cell: drawn }];
const toggle = vi.fn();
let root: Root;
let place: HTMLDivElement;

beforeEach(() => {
  Object.assign(globalThis, { IS_REACT_ACT_ENVIRONMENT: true });
  place = document.createElement("div");
  root = createRoot(place);
  drawn.mockClear();
  toggle.mockClear();
});
afterEach(() => act(() => root.unmount()));

const show = (things: readonly Thing[], checked: readonly string[] = []) => act(() => root.render(things.map((row, index) => (
  <TableRow key={row.id} row={row} id={row.id} name={row.name} index={index} start={index * 44} columns={columns} checked={checked.includes(row.id)} toggle={toggle} />
))));

const one = { id: "1", name: "one" };
const two = { id: "2", name: "two" };

it("is drawn anew only when its own resource, place or tick changed", () => {
  show([one, two]);
  expect(drawn).toHaveBeenCalledTimes(2);
  show([one, two]);
  expect(drawn).toHaveBeenCalledTimes(2);
  show([one, two], ["2"]);
  expect(drawn).toHaveBeenCalledTimes(3);
  expect(place.querySelectorAll<HTMLInputElement>("input")[1]!.checked).toBe(true);
  show([{ ...one, name: "first" }, two], ["2"]);
  expect(drawn).toHaveBeenCalledTimes(4);
  expect(place.textContent).toBe("firsttwo");
});

it("tells which one was ticked, and is named for those who hear it", () => {
  show([one, two]);
  const box = place.querySelector<HTMLInputElement>('[data-index="1"] input')!;
  expect(box.getAttribute("aria-label")).toBe("Select two");
  act(() => box.click());
  expect(toggle).toHaveBeenCalledExactlyOnceWith("2");
});
