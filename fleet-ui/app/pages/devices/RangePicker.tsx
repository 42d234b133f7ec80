/** Which span of time is shown: up to now, or from one moment to another. The caller keeps it in the address. */
import { Button, Group, Popover, SegmentedControl, Stack, TextInput } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { IconClock } from "@tabler/icons-react";
import { useState } from "react";
import { text } from "~/text";
import { dateTime } from "~/ui/format";
import { RANGES } from "./routes";
import { fromLocal, toLocal } from "./vitals";

const words = text.devices;

export type Range = (typeof RANGES)[number];

interface Props {
  readonly span: { readonly from: number; readonly to: number; readonly live: boolean };
  readonly range: Range;
  readonly onRange: (range: Range) => void;
  readonly onSpan: (from: number, to: number) => void;
}

export function RangePicker({ span, range, onRange, onSpan }: Props) {
  const [opened, { toggle, close }] = useDisclosure();
  return (
    <div className="range">
      <div className="scroll-x">
        <SegmentedControl
          size="xs" aria-label={words.range} value={span.live ? range : ""} data={RANGES.map((value) => ({ value, label: words.ranges[value] }))}
          onChange={(value) => onRange(RANGES.find((one) => one === value) ?? range)}
        />
      </div>
      <Popover opened={opened} onChange={(open) => !open && close()} position="bottom-start" trapFocus withinPortal={false}>
        <Popover.Target>
          <Button size="xs" variant="default" leftSection={<IconClock size={14} />} aria-expanded={opened} onClick={toggle}>
            {span.live ? words.custom : `${dateTime(span.from * 1_000)} – ${dateTime(span.to * 1_000)}`}
          </Button>
        </Popover.Target>
        <Popover.Dropdown>
          <SpanForm from={span.from} to={span.to} onSpan={(from, to) => (onSpan(from, to), close())} />
        </Popover.Dropdown>
      </Popover>
      {!span.live && <Button size="xs" variant="default" onClick={() => onRange(range)}>{words.liveNow}</Button>}
    </div>
  );
}

function SpanForm({ from, to, onSpan }: { from: number; to: number; onSpan: (from: number, to: number) => void }) {
  const [begin, setBegin] = useState(() => toLocal(from));
  const [end, setEnd] = useState(() => toLocal(to));
  const [low, high] = [fromLocal(begin), fromLocal(end)];
  const ready = low !== undefined && high !== undefined && high > low;
  return (
    <form onSubmit={(event) => (event.preventDefault(), ready && onSpan(low, high))}>
      <Stack gap="xs">
        <TextInput type="datetime-local" label={words.from} value={begin} onChange={(event) => setBegin(event.currentTarget.value)} />
        <TextInput type="datetime-local" label={words.to} value={end} error={!ready && words.wrongSpan} onChange={(event) => setEnd(event.currentTarget.value)} />
        <Group justify="end"><Button type="submit" size="xs" disabled={!ready}>{words.apply}</Button></Group>
      </Stack>
    </form>
  );
}
