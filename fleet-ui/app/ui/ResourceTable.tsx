/**
 * A list of the API as a table: virtual rows over cursor pages, sorted by the server, with selection and export.
 *
 * It never sorts or filters by itself: what it has loaded is a part of the list.
 */
import { Button, Group, Skeleton, VisuallyHidden } from "@mantine/core";
import { IconArrowDown } from "@tabler/icons-react";
import { rowSelectionFeature, tableFeatures, useTable, type ColumnDef, type RowSelectionState } from "@tanstack/react-table";
import { useVirtualizer } from "@tanstack/react-virtual";
import { useCallback, useDeferredValue, useEffect, useMemo, useRef, useState, type KeyboardEvent, type ReactNode } from "react";
import { text } from "~/text";
import { ErrorPanel } from "./ErrorPanel";
import { ExportMenu } from "./ExportMenu";
import { rowsOf, type Pages, type ReadPage } from "./paging";
import { cellClass, TableRow, type ResourceColumn } from "./TableRow";
import { usePrinting } from "./usePrinting";

export type { ResourceColumn };

const ROW_PX = 44;
/** Rows beyond the edges that a short turn of the wheel reaches; each costs at every change of the list. */
const OVERSCAN = 6;
/** Rows that go on paper at most, some thirty pages; exports have the others. */
const PRINTED = 1_000;
const features = tableFeatures({ rowSelectionFeature });

interface Props<T> {
  readonly label: string;
  readonly pages: Pages<T>;
  readonly columns: readonly ResourceColumn<T>[];
  readonly rowId: (row: T) => string;
  readonly rowName?: (row: T) => string;
  readonly empty: ReactNode;
  readonly sort?: string;
  readonly onSort?: (sort: string) => void;
  /** Shown above the rows while some are selected. */
  readonly bulk?: (rows: T[], clear: () => void) => ReactNode;
  readonly height?: string;
  /** How exports read the same list. */
  readonly read: ReadPage<T>;
}

export function ResourceTable<T extends object>({ label, pages, columns, rowId, rowName, empty, sort, onSort, bulk, height, read }: Props<T>) {
  const rows = useMemo(() => rowsOf(pages), [pages.data]);
  const [selection, setSelection] = useState<RowSelectionState>({});
  const defs = useMemo<ColumnDef<typeof features, T>[]>(
    () => columns.map((column) => ({ id: column.id, header: column.header, cell: ({ row }) => column.cell(row.original) })),
    [columns],
  );
  const table = useTable({ features, columns: defs, data: rows, getRowId: rowId, state: { rowSelection: selection }, onRowSelectionChange: setSelection });
  const model = table.getRowModel().rows;
  const toggle = useCallback((id: string) => setSelection(({ [id]: on, ...others }) => (on ? others : { ...others, [id]: true })), []);
  // The tick is shown at once, what follows from it a moment later.
  const settled = useDeferredValue(selection);
  const selected = useMemo(() => model.filter((row) => settled[row.id]).map((row) => row.original), [model, settled]);

  const scroller = useRef<HTMLDivElement>(null);
  const virtual = useVirtualizer({ count: model.length, getScrollElement: () => scroller.current, estimateSize: () => ROW_PX, overscan: OVERSCAN, useFlushSync: false });
  const printing = usePrinting();
  const seen = virtual.getVirtualItems();
  const items = printing ? model.slice(0, PRINTED).map((_, index) => ({ index, start: index * ROW_PX })) : seen;
  const last = seen.at(-1)?.index ?? -1;
  useEffect(() => {
    if (last >= model.length - 20 && pages.hasNextPage && !pages.isFetchingNextPage && !pages.isPlaceholderData) void pages.fetchNextPage();
  }, [last, model.length, pages]);

  const tracks = `${bulk ? "2.25rem " : ""}${columns.map((column) => column.width).join(" ")}`;
  const narrow = `${bulk ? "2.25rem " : ""}${columns.filter((column) => !column.wide).map((column) => column.width).join(" ")}`;
  const move = (event: KeyboardEvent<HTMLDivElement>) => {
    const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
    const row = (event.target as HTMLElement).closest<HTMLElement>("[data-index]");
    if (!step || !row) return;
    const next = Number(row.dataset.index) + step;
    if (next < 0 || next >= model.length) return;
    event.preventDefault();
    virtual.scrollToIndex(next);
    requestAnimationFrame(() => scroller.current?.querySelector<HTMLElement>(`[data-index="${next}"] a`)?.focus());
  };

  if (pages.error && rows.length === 0) return <ErrorPanel error={pages.error} retry={() => pages.refetch()} />;
  if (!pages.isPending && rows.length === 0) return <>{empty}</>;

  const shown = printing ? Math.min(rows.length, PRINTED) : rows.length;
  const all = model.length > 0 && selected.length === model.length;
  return (
    <div className="table-frame">
      {selected.length > 0 && bulk && (
        <Group className="bulk" gap="sm">
          <span className="nums">{text.ui.selected(selected.length)}</span>
          {bulk(selected, () => setSelection({}))}
          <Button size="xs" variant="subtle" color="gray" onClick={() => setSelection({})}>
            {text.ui.clearSelection}
          </Button>
        </Group>
      )}
      <div
        ref={scroller}
        className="table"
        role="table"
        aria-label={label}
        aria-rowcount={pages.hasNextPage ? -1 : model.length + 1}
        aria-busy={pages.isPending}
        onKeyDown={move}
        tabIndex={0}
        style={{ "--tracks": tracks, "--narrow": narrow, maxHeight: height } as React.CSSProperties}
      >
        <div role="rowgroup" className="table-head">
          <div role="row" className="row">
            {bulk && (
              <span role="columnheader" className="check">
                <input
                  type="checkbox" aria-label={text.ui.selectAll} checked={all}
                  ref={(box) => void (box && (box.indeterminate = !all && selected.length > 0))}
                  onChange={() => table.toggleAllRowsSelected(!all)}
                />
              </span>
            )}
            {columns.map((column) => (
              <span
                role="columnheader"
                key={column.id}
                className={cellClass(column)}
                aria-sort={column.sort && column.sort === sort ? (column.sort === "name" ? "ascending" : "descending") : undefined}
              >
                {column.sort && onSort ? (
                  <button type="button" className="sort" aria-label={text.ui.sortBy(column.header)} onClick={() => onSort(column.sort!)}>
                    {column.header}
                    {column.sort === sort && <IconArrowDown size={14} aria-hidden className={column.sort === "name" ? "flip" : ""} />}
                  </button>
                ) : (
                  column.header || <VisuallyHidden>{text.ui.actions}</VisuallyHidden>
                )}
              </span>
            ))}
          </div>
        </div>
        {pages.isPending ? (
          <div role="rowgroup" aria-label={text.ui.loading}>
            {Array.from({ length: 8 }, (_, index) => (
              <div role="row" className="row" key={index}>
                <span role="cell" className="cell">
                  <Skeleton height={14} width={`${40 + ((index * 17) % 40)}%`} />
                </span>
              </div>
            ))}
          </div>
        ) : (
          <div role="rowgroup" className="table-body" style={{ height: virtual.getTotalSize() }}>
            {items.map((item) => {
              const row = model[item.index]!;
              return (
                <TableRow
                  key={row.id} row={row.original} id={row.id} name={(rowName ?? rowId)(row.original)} index={item.index} start={item.start} columns={columns}
                  checked={Boolean(selection[row.id])} toggle={bulk && toggle}
                />
              );
            })}
          </div>
        )}
      </div>
      <Group justify="space-between" className="table-foot">
        <span className="dim nums" aria-live="polite">{text.ui.rows(shown, pages.hasNextPage || shown < rows.length)}</span>
        <ExportMenu label={label} columns={columns} read={read} />
      </Group>
    </div>
  );
}
