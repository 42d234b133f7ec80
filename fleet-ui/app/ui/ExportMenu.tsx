/** Writes all rows of a list to a file. It reads them by itself in large pages; what is loaded on the page stays as it is. */
import { Button, Menu } from "@mantine/core";
import { IconDownload } from "@tabler/icons-react";
import { useState } from "react";
import { text } from "~/text";
import { csv, download } from "./export";
import { everything, type ReadPage } from "./paging";
import type { ResourceColumn } from "./TableRow";
import { failed, told } from "./toast";

interface Props<T> {
  readonly label: string;
  readonly columns: readonly ResourceColumn<T>[];
  readonly read: ReadPage<T>;
}

export function ExportMenu<T>({ label, columns, read }: Props<T>) {
  const [count, setCount] = useState<number>();
  const write = async (kind: "csv" | "json") => {
    try {
      setCount(0);
      const rows = await everything(read, setCount);
      const written = columns.filter((column) => column.header);
      const name = `${label.toLowerCase().replace(/\W+/g, "-")}.${kind}`;
      if (kind === "json") download(name, "application/json", JSON.stringify(rows, undefined, 2));
      else download(name, "text/csv", csv(written.map((column) => column.header), rows.map((row) => written.map((column) => column.value(row)))));
      told(text.ui.exported(rows.length));
    } catch (error) {
      failed(error);
    } finally {
      setCount(undefined);
    }
  };
  return (
    <Menu position="top-end">
      <Menu.Target>
        <Button size="compact-sm" variant="subtle" color="gray" leftSection={<IconDownload size={15} />} loading={count !== undefined}>
          {count === undefined ? text.ui.export : text.ui.exporting(count)}
        </Button>
      </Menu.Target>
      <Menu.Dropdown>
        <Menu.Item onClick={() => void write("csv")}>{text.ui.exportCsv}</Menu.Item>
        <Menu.Item onClick={() => void write("json")}>{text.ui.exportJson}</Menu.Item>
      </Menu.Dropdown>
    </Menu>
  );
}
