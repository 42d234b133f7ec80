/** Both values of what two people changed, and the choice between them. */
import { Alert, Button, Group, Radio, Stack, Text } from "@mantine/core";
import { useState } from "react";
import { text } from "~/text";
import { Name } from "./Name";
import { settle, type Fields, type Merge } from "./merge";

interface Props {
  readonly merge: Merge;
  readonly busy: boolean;
  readonly onSettled: (fields: Fields) => void;
  readonly onCancel: () => void;
}

export function MergeForm({ merge, busy, onSettled, onCancel }: Props) {
  const [theirs, setTheirs] = useState<ReadonlySet<string>>(new Set());
  const choose = (key: string, side: string) => setTheirs((before) => {
    const next = new Set(before);
    if (side === "theirs") next.add(key);
    else next.delete(key);
    return next;
  });
  return (
    <Stack>
      <Alert variant="default" role="alert" title={text.ui.changed}>{text.ui.changedLead}</Alert>
      {merge.clashes.map(({ key, mine, theirs: other }) => (
        <Radio.Group key={key} label={<Name mono>{key}</Name>} value={theirs.has(key) ? "theirs" : "mine"} onChange={(side) => choose(key, side)}>
          <Stack gap={6} mt={4}>
            <Radio value="mine" label={<Side who={text.ui.mine} value={mine} />} />
            <Radio value="theirs" label={<Side who={text.ui.theirs} value={other} />} />
          </Stack>
        </Radio.Group>
      ))}
      <Group justify="flex-end">
        <Button variant="default" onClick={onCancel}>{text.ui.cancel}</Button>
        <Button loading={busy} onClick={() => onSettled(settle(merge, (key) => (theirs.has(key) ? "theirs" : "mine")))}>{text.ui.merge}</Button>
      </Group>
    </Stack>
  );
}

function Side({ who, value }: { who: string; value: string | undefined }) {
  return (
    <span>
      <Text span size="sm" className="dim">{who}: </Text>
      {value === undefined ? <Text span size="sm" fs="italic">{text.ui.removed}</Text> : <Name lines={6}>{value || "“”"}</Name>}
    </span>
  );
}
