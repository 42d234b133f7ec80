/** Gives a device another name; the old one can be had back. */
import { Button, Group, Modal, Stack, TextInput } from "@mantine/core";
import { useState } from "react";
import { text } from "~/text";
import { told } from "~/ui/toast";

interface Props {
  readonly name: string;
  readonly close: () => void;
  readonly renamed: (name: string) => Promise<void>;
}

export function RenameForm({ name, close, renamed }: Props) {
  const [typed, setTyped] = useState(name);
  const [busy, setBusy] = useState(false);
  const submit = async () => {
    setBusy(true);
    await renamed(typed.trim());
    told(text.devices.renamed, { undo: () => void renamed(name) });
    close();
  };
  return (
    <Modal opened onClose={close} title={text.devices.rename} closeButtonProps={{ "aria-label": text.ui.close }}>
      <form onSubmit={(event) => (event.preventDefault(), void submit())}>
        <Stack>
          <TextInput data-autofocus label={text.devices.name} value={typed} maxLength={253} onChange={(event) => setTyped(event.currentTarget.value)} />
          <Group justify="flex-end">
            <Button variant="default" onClick={close}>{text.ui.cancel}</Button>
            <Button type="submit" loading={busy} disabled={!typed.trim() || typed.trim() === name}>{text.devices.rename}</Button>
          </Group>
        </Stack>
      </form>
    </Modal>
  );
}
