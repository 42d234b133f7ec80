/** Asks for a typed reason before what cannot be undone. */
import { Button, Group, Modal, Stack, Text, TextInput } from "@mantine/core";
import { useState, type ReactNode } from "react";
import { text } from "~/text";

interface Props {
  readonly title: string;
  readonly lead: string;
  readonly action: string;
  /** What has to be typed, where there is no place for a reason in the API. */
  readonly word?: string;
  readonly children?: ReactNode;
  readonly close: () => void;
  readonly confirmed: (reason: string) => Promise<unknown>;
}

export function Confirm({ title, lead, action, word, children, close, confirmed }: Props) {
  const [reason, setReason] = useState("");
  const [busy, setBusy] = useState(false);
  const ready = word ? reason.trim() === word : reason.trim().length > 0;
  const submit = async () => {
    setBusy(true);
    await confirmed(reason.trim()).finally(() => setBusy(false));
    close();
  };
  return (
    <Modal opened onClose={close} title={<bdi className="cut">{title}</bdi>} closeButtonProps={{ "aria-label": text.ui.close }}>
      <form onSubmit={(event) => (event.preventDefault(), ready && void submit())}>
        <Stack>
          <Text size="sm">{lead}</Text>
          {children}
          <TextInput
            data-autofocus
            label={word ? text.ui.typeToConfirm(word.slice(0, 60)) : text.ui.reason}
            description={word ? undefined : text.ui.reasonHelp}
            value={reason}
            onChange={(event) => setReason(event.currentTarget.value)}
          />
          <Group justify="flex-end">
            <Button variant="default" onClick={close}>{text.ui.cancel}</Button>
            <Button type="submit" color="red" disabled={!ready} loading={busy}>{action}</Button>
          </Group>
        </Stack>
      </form>
    </Modal>
  );
}
