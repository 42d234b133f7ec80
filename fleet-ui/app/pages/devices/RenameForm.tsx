/** Gives a device another name; the old one can be had back. */
import { Button, Group, Modal, Stack, TextInput } from "@mantine/core";
import { useState } from "react";
import { objectionIn } from "~/api/objection";
import { text } from "~/text";
import { ErrorPanel } from "~/ui/ErrorPanel";
import { failed, told } from "~/ui/toast";
import { Wrong } from "~/ui/Wrong";

interface Props {
  readonly name: string;
  readonly close: () => void;
  readonly renamed: (name: string) => Promise<void>;
}

export function RenameForm({ name, close, renamed }: Props) {
  const [typed, setTyped] = useState(name);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>();
  const submit = async () => {
    setBusy(true);
    try {
      await renamed(typed.trim());
      told(text.devices.renamed, { undo: () => void renamed(name).catch(failed) });
      close();
    } catch (failure) {
      setError(failure);
    } finally {
      setBusy(false);
    }
  };
  const wrong = objectionIn(error);
  return (
    <Modal opened onClose={close} title={text.devices.rename} closeButtonProps={{ "aria-label": text.ui.close }}>
      <form onSubmit={(event) => (event.preventDefault(), void submit())}>
        <Stack>
          <TextInput data-autofocus label={text.devices.name} value={typed} maxLength={253} error={wrong && <Wrong objection={wrong} />} onChange={(event) => setTyped(event.currentTarget.value)} />
          {error !== undefined && !wrong && <ErrorPanel error={error} />}
          <Group justify="flex-end">
            <Button variant="default" onClick={close}>{text.ui.cancel}</Button>
            <Button type="submit" loading={busy} disabled={!typed.trim() || typed.trim() === name}>{text.devices.rename}</Button>
          </Group>
        </Stack>
      </form>
    </Modal>
  );
}
