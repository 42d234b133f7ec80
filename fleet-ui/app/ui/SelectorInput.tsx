/** A selector in kubectl's syntax, completed from the labels of devices, with the control plane's objection below it. */
import { Autocomplete } from "@mantine/core";
import { memo, useEffect, useMemo, useState } from "react";
import { api } from "~/api/client";
import { objectionIn } from "~/api/objection";
import { text } from "~/text";
import { complete, labelsSeen } from "./selector";
import { Wrong } from "./Wrong";

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
  const sample = api.useQuery("get", "/api/v1/devices", { params: { query: { limit: 200 } } }, { staleTime: 60_000 });
  const seen = useMemo(() => labelsSeen(sample.data?.items ?? []), [sample.data]);
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
