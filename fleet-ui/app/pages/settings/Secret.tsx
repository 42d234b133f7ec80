/** Something that is shown once. */
import { Alert, Button, Group, Stack } from "@mantine/core";
import { text } from "~/text";
import { Command } from "~/ui/CopyButton";

export function Secret({ value, close }: { value: string; close: () => void }) {
  return (
    <Stack>
      <Alert variant="default" role="status" title={text.settings.shownOnce}>{text.settings.shownOnceLead}</Alert>
      <Command>{value}</Command>
      <Group justify="flex-end"><Button onClick={close}>{text.ui.close}</Button></Group>
    </Stack>
  );
}
