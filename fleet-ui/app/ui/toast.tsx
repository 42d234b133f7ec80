/** Short news about what the person did, with a link to it or a way back. */
import { Anchor, Button, Group } from "@mantine/core";
import { notifications } from "@mantine/notifications";
import { objectionIn } from "~/api/objection";
import { adviceOf } from "~/api/problem";
import { router } from "~/shell/navigate";
import { text } from "~/text";

/** Long enough to read it and to reach the button. */
const SHOWN_MS = 8_000;

export function told(message: string, more: { to?: string; undo?: () => void } = {}): void {
  const id = crypto.randomUUID();
  const hide = () => notifications.hide(id);
  notifications.show({
    id,
    autoClose: SHOWN_MS,
    closeButtonProps: { "aria-label": text.ui.close },
    message: (
      <Group justify="space-between" wrap="nowrap">
        <bdi className="cut">{message}</bdi>
        {more.to && (
          <Anchor component="button" size="sm" onClick={() => (hide(), router().history.push(more.to!))}>
            {text.ui.show}
          </Anchor>
        )}
        {more.undo && (
          <Button size="compact-sm" variant="default" onClick={() => (hide(), more.undo!())}>
            {text.ui.undo}
          </Button>
        )}
      </Group>
    ),
  });
}

export function failed(error: unknown): void {
  notifications.show({
    color: "red",
    autoClose: SHOWN_MS * 2,
    closeButtonProps: { "aria-label": text.ui.close },
    title: <bdi>{objectionIn(error)?.reason ?? (error instanceof Error ? error.message : text.errors.unexpected)}</bdi>,
    message: adviceOf(error),
  });
}
