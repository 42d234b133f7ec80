/** What narrows the list of devices. Each field is drawn anew only when it changed: one of them changes at a time, and they are heavy. */
import { SegmentedControl, Select, TextInput } from "@mantine/core";
import { IconSearch } from "@tabler/icons-react";
import { memo, useCallback, useEffect, useState } from "react";
import type { Search as SearchOf } from "~/shell/search";
import { text } from "~/text";
import { SelectorInput } from "~/ui/SelectorInput";
import { STATES, type DEVICE_SEARCH } from "./routes";
import { Views } from "./Views";

const words = text.devices;

export type Search = SearchOf<typeof DEVICE_SEARCH>;

interface Props {
  readonly search: Search;
  /** Stays the same from one drawing to the next. */
  readonly change: (changed: Partial<Search>) => void;
  /** What the control plane says of the selector. */
  readonly error: unknown;
}

export function Filters({ search, change, error }: Props) {
  const select = useCallback((selector: string) => change({ selector: selector || undefined }), [change]);
  return (
    <div className="filters">
      <SearchInput value={search.q ?? ""} change={change} />
      <SelectorInput bare value={search.selector ?? ""} onChange={select} error={error} />
      <StateFilter value={search.state} change={change} />
      <ViewSwitch value={search.view} change={change} />
      <Views />
    </div>
  );
}

interface FieldProps<K extends keyof Search> {
  readonly value: Search[K];
  readonly change: Props["change"];
}

const StateFilter = memo(({ value, change }: FieldProps<"state">) => (
  <Select
    aria-label={words.state} placeholder={words.anyState} clearable clearButtonProps={{ "aria-label": text.ui.remove }} w={140} value={value ?? null}
    data={STATES.map((state) => ({ value: state, label: words.states[state] }))}
    onChange={(state) => change({ state: STATES.find((one) => one === state) })}
  />
));

const ViewSwitch = memo(({ value, change }: FieldProps<"view">) => (
  <SegmentedControl
    aria-label={words.view} value={value ?? "list"} data={[{ value: "list", label: words.list }, { value: "map", label: words.map }]}
    onChange={(view) => change({ view: view === "map" ? "map" : undefined })}
  />
));

const SearchInput = memo(({ value = "", change }: FieldProps<"q">) => {
  const [typed, setTyped] = useState(value);
  useEffect(() => setTyped(value), [value]);
  const search = () => change({ q: typed.trim() || undefined });
  return (
    <TextInput
      className="grow" aria-label={text.ui.search} placeholder={text.ui.search} leftSection={<IconSearch size={15} />} maxLength={128} value={typed}
      onChange={(event) => setTyped(event.currentTarget.value)}
      onBlur={() => typed !== value && search()}
      onKeyDown={(event) => event.key === "Enter" && search()}
    />
  );
});
