/**
 * One row of a table of resources. Rows are many and what they show changes seldom: one is drawn anew only when its resource, its place
 * or its tick changed, and its cells hold plain elements.
 */
import { memo, type ReactNode } from "react";
import { text } from "~/text";
import type { Cell } from "./export";

export interface ResourceColumn<T> {
  readonly id: string;
  /** Empty: there are only buttons in it, and exports leave it out. */
  readonly header: string;
  /** A track of the grid: `minmax(8rem, 2fr)`. */
  readonly width: string;
  readonly cell: (row: T) => ReactNode;
  /** What exports write. */
  readonly value: (row: T) => Cell;
  /** The server's name of the order by this column. */
  readonly sort?: string;
  readonly end?: boolean;
  /** Left out below tablet width. */
  readonly wide?: boolean;
}

export const cellClass = (column: { end?: boolean; wide?: boolean }) => `cell ${column.end ? "end nums" : ""} ${column.wide ? "wide" : ""}`;

const LONGEST_NAME = 80;

interface Props<T> {
  readonly row: T;
  readonly id: string;
  readonly name: string;
  readonly index: number;
  /** Pixels from the top of the table's body. */
  readonly start: number;
  readonly columns: readonly ResourceColumn<T>[];
  readonly checked: boolean;
  /** Absent: rows cannot be chosen. Stays the same from one drawing to the next. */
  readonly toggle?: ((id: string) => void) | undefined;
}

function Row<T>({ row, id, name, index, start, columns, checked, toggle }: Props<T>) {
  return (
    <div role="row" data-index={index} aria-rowindex={index + 2} className="row row-link" style={{ transform: `translateY(${start}px)` }}>
      {toggle && (
        <span role="cell" className="check">
          <input type="checkbox" aria-label={text.ui.selectRow(name.slice(0, LONGEST_NAME))} checked={checked} onChange={() => toggle(id)} />
        </span>
      )}
      {columns.map((column) => (
        <span role="cell" key={column.id} className={cellClass(column)}>
          {column.cell(row)}
        </span>
      ))}
    </div>
  );
}

export const TableRow = memo(Row) as typeof Row;
