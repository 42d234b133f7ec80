/** What is done to many devices at once: labels on each, or a rollout to all of the selector. */
import { Button, Group, Modal, Progress, Stack, Text, TextInput } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { http } from "~/api/client";
import { objectionIn } from "~/api/objection";
import { text } from "~/text";
import { ButtonLink } from "~/ui/ButtonLink";
import { integer } from "~/ui/format";
import { told } from "~/ui/toast";
import type { Device } from "./Devices";
import { inTurns } from "./inTurns";

const words = text.devices;
/** Requests at the same time. */
const AT_ONCE = 4;
/** How many that were refused are listed. */
const LISTED = 100;

/** Rollouts go to selectors, so that they reach those that join later, too. */
export function SelectorActions({ selector, size }: { selector: string; size?: string }) {
  return (
    <>
      <ButtonLink {...(size && { size })} variant="default" to="/rollouts/new" search={{ to: selector }}>{words.bulkDeploy}</ButtonLink>
      <ButtonLink {...(size && { size })} variant="default" to="/rollouts/new" search={{ to: selector, subject: "agent.release" }}>{words.bulkUpdate}</ButtonLink>
    </>
  );
}

export function BulkActions({ devices, done }: { devices: readonly Device[]; done: () => void }) {
  const [labelling, setLabelling] = useState(false);
  return (
    <>
      <Button size="xs" variant="default" onClick={() => setLabelling(true)}>{words.bulkLabel}</Button>
      {labelling && <LabelForm devices={devices} close={() => setLabelling(false)} done={done} />}
    </>
  );
}

interface Refused {
  readonly device: Device;
  readonly error: unknown;
}

function LabelForm({ devices, close, done }: { devices: readonly Device[]; close: () => void; done: () => void }) {
  const queries = useQueryClient();
  const [key, setKey] = useState("");
  const [value, setValue] = useState("");
  const [finished, setFinished] = useState<number>();
  const [refused, setRefused] = useState<readonly Refused[]>([]);
  /** Set once all were tried. */
  const [labelled, setLabelled] = useState<readonly Device[]>();
  const selector = `${key.trim()}=${value.trim()}`;

  const label = async (targets: readonly Device[], valueOf: (device: Device) => string | null): Promise<Refused[]> => {
    setFinished(0);
    const patch = (device: Device) => http.PATCH("/api/v1/devices/{device}", { params: { path: { device: device.id } }, body: { labels: { [key.trim()]: valueOf(device) } } });
    const outcomes = await inTurns(targets, AT_ONCE, patch, () => setFinished((before) => (before ?? 0) + 1));
    setFinished(undefined);
    void queries.invalidateQueries({ predicate: ({ queryKey }) => String(queryKey[1]).startsWith("/api/v1/devices") });
    return targets.flatMap((device, index) => (outcomes[index]?.status === "rejected" ? [{ device, error: outcomes[index].reason as unknown }] : []));
  };
  const submit = async () => {
    // Another try is for those that were refused.
    const targets = refused.length > 0 ? refused.map(({ device }) => device) : devices;
    const failures = await label(targets, () => value.trim());
    const made = [...(labelled ?? []), ...targets.filter((device) => !failures.some((failure) => failure.device.id === device.id))];
    setRefused(failures);
    setLabelled(made);
    if (made.length > 0) told(words.bulkDone(made.length), { undo: () => void label(made, (device) => device.labels[key.trim()] ?? null) });
  };
  const leave = () => {
    close();
    if (labelled && refused.length === 0) done();
  };
  const over = labelled !== undefined && refused.length === 0;
  return (
    <Modal opened onClose={leave} title={words.bulkLabelTitle(devices.length)} closeButtonProps={{ "aria-label": text.ui.close }}>
      <form onSubmit={(event) => (event.preventDefault(), void submit())}>
        <Stack>
          <Group grow align="start">
            <TextInput data-autofocus label={words.key} value={key} disabled={labelled !== undefined} onChange={(event) => setKey(event.currentTarget.value)} classNames={{ input: "mono" }} />
            <TextInput label={words.value} value={value} disabled={labelled !== undefined} onChange={(event) => setValue(event.currentTarget.value)} classNames={{ input: "mono" }} />
          </Group>
          {finished !== undefined && (
            <div role="status">
              <Progress value={(100 * finished) / devices.length} aria-label={words.bulkLabel} />
              <Text size="sm" className="dim nums">{integer(finished)} / {integer(devices.length)}</Text>
            </div>
          )}
          {refused.length > 0 && finished === undefined && (
            <div role="alert">
              <Text size="sm" fw={500}>{words.bulkFailed(refused.length)}</Text>
              <ul className="refused">
                {refused.slice(0, LISTED).map(({ device, error }) => <li key={device.id}><bdi>{device.name.slice(0, 80)}</bdi>: <bdi>{objectionIn(error)?.reason ?? (error instanceof Error ? error.message : text.errors.unexpected)}</bdi></li>)}
              </ul>
            </div>
          )}
          {over && (
            <div className="stack" style={{ gap: 8 }}>
              <Text size="sm">{words.bulkNext(selector)}</Text>
              <Group gap="xs"><SelectorActions selector={selector} size="xs" /></Group>
            </div>
          )}
          <Group justify="flex-end">
            <Button variant="default" onClick={leave}>{labelled ? text.ui.close : text.ui.cancel}</Button>
            {!over && <Button type="submit" disabled={!key.trim()} loading={finished !== undefined}>{labelled ? text.errors.retry : words.bulkLabel}</Button>}
          </Group>
        </Stack>
      </form>
    </Modal>
  );
}
