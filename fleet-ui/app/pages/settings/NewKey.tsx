/** Makes an API key, and shows it once. */
import { Button, Group, Modal, NumberInput, Select, Stack, TextInput } from "@mantine/core";
import { useState } from "react";
import { http } from "~/api/client";
import { objectionIn } from "~/api/objection";
import type { Role } from "~/api/session";
import { text } from "~/text";
import { ErrorPanel } from "~/ui/ErrorPanel";
import { Wrong } from "~/ui/Wrong";
import { Secret } from "./Secret";

const words = text.settings;
const ROLES: readonly Role[] = ["viewer", "operator", "owner"];
const DAY_S = 86_400;

export function NewKey({ close }: { close: () => void }) {
  const [name, setName] = useState("");
  const [role, setRole] = useState<Role>("viewer");
  const [days, setDays] = useState<number | "">(90);
  const [secret, setSecret] = useState<string>();
  const [error, setError] = useState<unknown>();
  const make = async () => {
    setError(undefined);
    try {
      const { data } = await http.POST("/api/v1/keys", { body: { name: name.trim(), role, ttl_s: days === "" ? null : days * DAY_S } });
      setSecret(data?.secret);
    } catch (failure) {
      setError(failure);
    }
  };
  const objection = objectionIn(error);
  const wrong = (field: string) => objection?.field === field && <Wrong objection={objection} />;
  const placed = ["name", "role", "ttl_s"].includes(objection?.field ?? "");
  return (
    <Modal opened onClose={close} title={words.newKeyTitle} closeOnClickOutside={!secret} closeButtonProps={{ "aria-label": text.ui.close }}>
      {secret ? <Secret value={secret} close={close} /> : (
        <form onSubmit={(event) => (event.preventDefault(), void make())}>
          <Stack>
            <TextInput data-autofocus label={words.name} value={name} error={wrong("name")} onChange={(event) => setName(event.currentTarget.value)} />
            <Select label={words.role} allowDeselect={false} value={role} error={wrong("role")} data={ROLES.map((value) => ({ value, label: text.shell.role[value] }))} onChange={(value) => setRole(ROLES.find((one) => one === value) ?? "viewer")} />
            <NumberInput label={words.days} min={1} max={3_660} allowDecimal={false} value={days} error={wrong("ttl_s")} onChange={(value) => setDays(typeof value === "number" ? value : "")} />
            {error !== undefined && !placed && <ErrorPanel error={error} />}
            <Group justify="flex-end">
              <Button variant="default" onClick={close}>{text.ui.cancel}</Button>
              <Button type="submit" disabled={!name.trim()}>{words.make}</Button>
            </Group>
          </Stack>
        </form>
      )}
    </Modal>
  );
}
