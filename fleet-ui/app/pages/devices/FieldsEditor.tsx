/**
 * Edits fields under names: labels, notes, settings. What somebody else changed meanwhile is put together with what I
 * changed; where both changed the same field, both values are shown to choose from.
 */
import { ActionIcon, Autocomplete, Button, Group, Modal, Stack, Text, Textarea, TextInput } from "@mantine/core";
import { IconTrash } from "@tabler/icons-react";
import { useState } from "react";
import { objectionIn } from "~/api/objection";
import { isStatus } from "~/api/problem";
import { text } from "~/text";
import { ErrorPanel } from "~/ui/ErrorPanel";
import { merge, patch, type Fields, type Merge } from "~/ui/merge";
import { MergeForm } from "~/ui/MergeForm";
import { failed, told } from "~/ui/toast";
import { fieldsOf, rowsOf, twice, type Row } from "./fields";

const words = text.devices;
/** How often somebody else may be faster before it is given back to the person. */
const TRIES = 4;

export type Patch = Record<string, string | null>;

/** Where the fields are kept. */
export interface Keeper {
  read(): Promise<{ readonly fields: Fields; readonly tag: string | undefined }>;
  write(change: Patch, tag: string | undefined): Promise<unknown>;
}

interface Props {
  readonly title: string;
  readonly lead?: string;
  readonly initial: Fields;
  readonly keeper: Keeper;
  readonly close: () => void;
  /** Values of many lines. */
  readonly long?: boolean;
  /** Keys that are known. */
  readonly keys?: readonly string[];
}

export function FieldsEditor({ title, lead, initial, keeper, close, long, keys = [] }: Props) {
  const [base, setBase] = useState<Fields>(initial);
  const [rows, setRows] = useState<readonly Row[]>(() => rowsOf(initial));
  const [clash, setClash] = useState<{ merge: Merge; theirs: Fields }>();
  const [error, setError] = useState<unknown>();
  const [busy, setBusy] = useState(false);
  const doubled = twice(rows);
  const set = (id: number, change: Partial<Row>) => setRows((before) => before.map((row) => (row.id === id ? { ...row, ...change } : row)));
  const add = () => setRows((before) => [...before, { id: Math.max(-1, ...before.map(({ id }) => id)) + 1, key: "", value: "" }]);

  /** Sends what I mean, made on `from`. */
  const save = async (from: Fields, mine: Fields) => {
    setBusy(true);
    setError(undefined);
    try {
      for (let left = TRIES; ; left--) {
        const { fields: theirs, tag } = await keeper.read();
        const made = merge(from, mine, theirs);
        if (made.clashes.length > 0) return setClash({ merge: made, theirs });
        try {
          await keeper.write(patch(theirs, made.merged), tag);
        } catch (failure) {
          // Somebody was faster between the reading and the writing.
          if (isStatus(failure, 412) && left > 1) continue;
          throw failure;
        }
        told(words.saved, { undo: () => void keeper.write(patch(made.merged, theirs), undefined).catch(failed) });
        return close();
      }
    } catch (failure) {
      setError(failure);
    } finally {
      setBusy(false);
    }
  };
  const settled = (fields: Fields) => {
    setBase(clash!.theirs);
    setClash(undefined);
    setRows(rowsOf(fields));
    void save(clash!.theirs, fields);
  };
  // The control plane names the key in what it says about it.
  const objection = objectionIn(error)?.reason;
  const wrong = (key: string) => (doubled !== undefined && key.trim() === doubled ? words.twice : objection && key.trim() && (objection.includes(`\`${key.trim()}\``) || objection.includes(`/${key.trim()} `)) ? objection : undefined);
  const placed = rows.some(({ key }) => wrong(key) !== undefined);

  return (
    <Modal opened onClose={close} size="lg" title={title} closeButtonProps={{ "aria-label": text.ui.close }}>
      {clash ? <MergeForm merge={clash.merge} busy={busy} onSettled={settled} onCancel={() => setClash(undefined)} /> : (
        <form onSubmit={(event) => (event.preventDefault(), void save(base, fieldsOf(rows)))}>
          <Stack gap="xs">
            {lead && <Text size="sm" className="dim">{lead}</Text>}
            {rows.map((row, index) => (
              <div className="edit-row" key={row.id}>
                {keys.length > 0
                  ? <Autocomplete aria-label={`${words.key} ${index + 1}`} placeholder={words.key} value={row.key} data={[...keys]} error={wrong(row.key)} classNames={{ input: "mono" }} onChange={(key) => set(row.id, { key })} />
                  : <TextInput aria-label={`${words.key} ${index + 1}`} placeholder={words.key} value={row.key} error={wrong(row.key)} classNames={{ input: "mono" }} onChange={(event) => set(row.id, { key: event.currentTarget.value })} />}
                {long
                  ? <Textarea aria-label={`${words.value} ${index + 1}`} placeholder={words.value} autosize minRows={1} maxRows={8} value={row.value} onChange={(event) => set(row.id, { value: event.currentTarget.value })} />
                  : <TextInput aria-label={`${words.value} ${index + 1}`} placeholder={words.value} value={row.value} classNames={{ input: "mono" }} onChange={(event) => set(row.id, { value: event.currentTarget.value })} />}
                <ActionIcon variant="subtle" color="gray" aria-label={`${text.ui.remove} ${row.key.slice(0, 60)}`} onClick={() => setRows((before) => before.filter(({ id }) => id !== row.id))}><IconTrash size={15} /></ActionIcon>
              </div>
            ))}
            {rows.length === 0 && <Text size="sm" className="dim">{words.nothingYet}</Text>}
            {error !== undefined && !placed && <ErrorPanel error={error} />}
            <Group justify="space-between" mt="sm">
              <Button variant="subtle" onClick={add}>{text.ui.add}</Button>
              <Group>
                <Button variant="default" onClick={close}>{text.ui.cancel}</Button>
                <Button type="submit" loading={busy} disabled={doubled !== undefined}>{text.ui.save}</Button>
              </Group>
            </Group>
          </Stack>
        </form>
      )}
    </Modal>
  );
}
