/** Copies `value`, and says so. `Command` shows a line for the shell with such a button. */
import { ActionIcon, CopyButton as Copy, Tooltip } from "@mantine/core";
import { IconCheck, IconCopy } from "@tabler/icons-react";
import { text } from "~/text";

export function CopyButton({ value }: { value: string }) {
  return (
    <Copy value={value} timeout={1_500}>
      {({ copied, copy }) => (
        <Tooltip label={copied ? text.ui.copied : text.ui.copy} withArrow>
          <ActionIcon variant="subtle" color={copied ? "teal" : "gray"} onClick={copy} aria-label={copied ? text.ui.copied : text.ui.copy}>
            {copied ? <IconCheck size={16} /> : <IconCopy size={16} />}
          </ActionIcon>
        </Tooltip>
      )}
    </Copy>
  );
}

export function Command({ children }: { children: string }) {
  return (
    <div className="command">
      <code>{children}</code>
      <CopyButton value={children} />
    </div>
  );
}
