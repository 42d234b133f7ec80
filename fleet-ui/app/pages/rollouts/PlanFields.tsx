/** Every part of a plan, for those who set it themselves. */
import { Checkbox, NumberInput, Select, SimpleGrid, Stack, Text, Textarea, TextInput } from "@mantine/core";
import type { ReactNode } from "react";
import type { Objection } from "~/api/objection";
import { text } from "~/text";
import { Wrong } from "~/ui/Wrong";
import { EXPERIMENTS, type PlanForm } from "./plan";

const words = text.rollouts;

interface Props {
  readonly form: PlanForm;
  readonly onChange: (form: PlanForm) => void;
  /** What the control plane does not take; it stands at its field. */
  readonly objection?: Objection | undefined;
}

/** Fields of the request that stand in this form. */
export const PLAN_FIELDS: ReadonlySet<string> = new Set([
  "waves", "gates", "soak_s", "max_failed", "max_unavailable", "window", "priority", "min_battery_percent", "max_temperature_c", "experiment", "experiment_s",
  "deadline_s", "watch_s", "min_requests", "not_after_us", "arch", "accelerator", "engine", "min_agent_version", "min_memory_bytes", "min_free_disk_bytes",
]);

/** Parts whose word has the same name. */
type Words = keyof typeof words;
type Line = Words & { [K in keyof PlanForm]: PlanForm[K] extends string ? K : never }[keyof PlanForm];
type Count = Words & { [K in keyof PlanForm]: "" extends PlanForm[K] ? (PlanForm[K] extends string ? never : K) : never }[keyof PlanForm];

export function PlanFields({ form, onChange, objection }: Props) {
  const set = (change: Partial<PlanForm>) => onChange({ ...form, ...change });
  const wrong = (field: string) => (objection?.field === field ? <Wrong objection={objection} /> : undefined);
  const line = (key: Line, field: string) => ({
    label: words[key], value: form[key], error: wrong(field), spellCheck: false,
    onChange: (event: { currentTarget: { value: string } }) => set({ [key]: event.currentTarget.value }),
  });
  const count = (key: Count, field: string) => ({
    label: words[key], value: form[key], error: wrong(field), min: 0, allowDecimal: false,
    onChange: (value: number | string) => set({ [key]: typeof value === "number" ? value : "" }),
  });
  return (
    <Stack>
      <TextInput {...line("waves", "waves")} description={words.wavesHelp} classNames={{ input: "mono" }} />
      <Textarea {...line("gates", "gates")} description={words.gatesHelp} classNames={{ input: "mono" }} autosize minRows={2} />
      <Fields>
        <NumberInput label={words.soak} min={0} max={43_200} value={form.soakMinutes} error={wrong("soak_s")} onChange={(value) => set({ soakMinutes: Number(value) || 0 })} />
        <TextInput {...line("maxFailed", "max_failed")} placeholder="0 / 5%" />
        <TextInput {...line("maxUnavailable", "max_unavailable")} placeholder="5%" />
        <NumberInput {...count("minRequests", "min_requests")} placeholder="20" />
        <NumberInput {...count("deadlineMinutes", "deadline_s")} placeholder="60" />
        <NumberInput {...count("watchMinutes", "watch_s")} placeholder={words.asSoak} />
      </Fields>
      <Checkbox label={words.autoRevert} checked={form.autoRevert} onChange={(event) => set({ autoRevert: event.currentTarget.checked })} />
      <Checkbox label={words.approve} checked={form.approve} onChange={(event) => set({ approve: event.currentTarget.checked })} />
      <Checkbox label={words.pauseOnFailure} checked={form.pauseOnFailure} onChange={(event) => set({ pauseOnFailure: event.currentTarget.checked })} />
      <Group title={words.when}>
        <TextInput {...line("window", "window")} description={words.windowHelp} />
        <TextInput {...line("notAfter", "not_after_us")} description={words.notAfterHelp} type="datetime-local" />
        <NumberInput {...count("minBattery", "min_battery_percent")} max={100} />
        <NumberInput {...count("maxTemperature", "max_temperature_c")} min={-40} max={150} />
        <NumberInput label={words.priority} description={words.priorityHelp} allowDecimal={false} min={-1_000} max={1_000} value={form.priority} error={wrong("priority")} onChange={(value) => set({ priority: Number(value) || 0 })} />
      </Group>
      <Group title={words.experimentTitle}>
        <Select
          label={words.experiment} allowDeselect={false} value={form.experiment} error={wrong("experiment")}
          data={EXPERIMENTS.map((value) => ({ value, label: words.experiments[value] }))}
          onChange={(value) => set({ experiment: EXPERIMENTS.find((one) => one === value) ?? "none" })}
        />
        {form.experiment !== "none" && (
          <>
            <NumberInput label={words.experimentPercent} min={1} max={100} allowDecimal={false} clampBehavior="strict" value={form.experimentPercent} onChange={(value) => set({ experimentPercent: Number(value) || 1 })} />
            <NumberInput label={words.experimentMinutes} min={1} value={form.experimentMinutes} error={wrong("experiment_s")} onChange={(value) => set({ experimentMinutes: Number(value) || 1 })} />
          </>
        )}
        {form.experiment === "split" && <TextInput {...line("experimentKey", "key")} description={words.experimentKeyHelp} />}
      </Group>
      <Group title={words.constraints}>
        <TextInput {...line("arch", "arch")} placeholder="aarch64" />
        <TextInput {...line("accelerator", "accelerator")} placeholder="any" />
        <TextInput {...line("engine", "engine")} placeholder="tract" />
        <TextInput {...line("minAgentVersion", "min_agent_version")} placeholder="1.4.0" />
        <NumberInput {...count("minMemoryMib", "min_memory_bytes")} />
        <NumberInput {...count("minDiskMib", "min_free_disk_bytes")} />
      </Group>
    </Stack>
  );
}

const Fields = ({ children }: { children: ReactNode }) => <SimpleGrid cols={{ base: 1, xs: 2 }}>{children}</SimpleGrid>;

function Group({ title, children }: { title: string; children: ReactNode }) {
  return (
    <fieldset className="plan-group">
      <Text component="legend" size="sm" fw={600}>{title}</Text>
      <Fields>{children}</Fields>
    </fieldset>
  );
}
