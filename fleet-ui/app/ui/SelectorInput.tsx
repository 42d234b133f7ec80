/** A selector in kubectl's syntax, completed from the labels of devices, with the control plane's objection below it. */
import { Autocomplete } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { memo, useEffect, useMemo, useState } from "react";
import { http } from "~/api/client";
import { objectionIn } from "~/api/objection";
import { text } from "~/text";
import { complete, labelsSeen } from "./selector";
import { Wrong } from "./Wrong";

/** Devices from which labels are offered, and how long they are good for. */
const SAMPLED = 200;
const SAMPLE_KEPT_MS = 60_000;

const sampled = async (signal: AbortSignal) => (await http.GET("/api/v1/devices", { params: { query: { limit: SAMPLED } }, signal })).data?.items ?? [];

interface Props {
  readonly value: string;
  /** Called when it was entered, completed or left. */
  readonly onChange: (value: string) => void;
  readonly error?: unknown;
  readonly label?: string;
  readonly bare?: boolean;
}

export const SelectorInput = memo(function SelectorInput({ value, onChange, error, label = text.ui.selector, bare }: Props) {
  const [typed, setTyped] = useState(value);
  const [opened, setOpened] = useState(false);
  useEffect(() => setTyped(value), [value]);
  const [used, setUsed] = useState(false);
  // Under a key of its own: a device that changed each second would have it read again each time.
  const sample = useQuery({ queryKey: ["get", "labels of devices"], queryFn: ({ signal }) => sampled(signal), staleTime: SAMPLE_KEPT_MS, enabled: used });
  const seen = useMemo(() => labelsSeen(sample.data ?? []), [sample.data]);
  const objection = objectionIn(error);
  return (
    <Autocomplete
      className="selector"
      classNames={{ input: "mono" }}
      label={bare ? undefined : label}
      aria-label={bare ? label : undefined}
      description={bare ? undefined : text.ui.selectorHelp}
      placeholder={text.ui.selectorPlaceholder}
      value={typed}
      data={complete(typed, seen)}
      filter={({ options }) => options}
      error={objection && (objection.field === "selector" || !objection.field) && <Wrong objection={objection} />}
      spellCheck={false}
      dropdownOpened={opened}
      onFocus={() => setUsed(true)}
      onDropdownOpen={() => setOpened(true)}
      onDropdownClose={() => setOpened(false)}
      comboboxProps={{ withinPortal: false }}
      onChange={setTyped}
      onOptionSubmit={(option) => {
        setTyped(option);
        if (!option.endsWith("=")) onChange(option);
        // The values of the key come next.
        else setTimeout(() => setOpened(true));
      }}
      onBlur={() => typed !== value && onChange(typed.trim())}
      onKeyDown={(event) => event.key === "Enter" && onChange(typed.trim())}
    />
  );
});
