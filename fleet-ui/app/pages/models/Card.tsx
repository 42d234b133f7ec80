/** The card of a model in Markdown, and its editor. What two people write at the same time is shown side by side. */
import { Button, Group, Stack, Text, Textarea } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { http, type Schemas } from "~/api/client";
import { objectionIn } from "~/api/objection";
import { isStatus } from "~/api/problem";
import { session } from "~/api/session";
import { text } from "~/text";
import { ErrorPanel } from "~/ui/ErrorPanel";
import { Empty, Section } from "~/ui/Section";
import { merge, type Merge } from "~/ui/merge";
import { MergeForm } from "~/ui/MergeForm";
import { told } from "~/ui/toast";
import { Wrong } from "~/ui/Wrong";
import { CardText } from "./CardText";

const words = text.models;

export function Card({ model }: { model: Schemas["ModelView"] }) {
  const [editing, setEditing] = useState(false);
  const card = model.card ?? "";
  const edit = session.may("operator") && !editing && <Button size="xs" variant="default" onClick={() => setEditing(true)}>{words.editCard}</Button>;
  return (
    <Section title={words.tabs.card} aside={edit}>
      {editing ? <Editor name={model.name} card={card} close={() => setEditing(false)} /> : card ? (
        <CardText>{card}</CardText>
      ) : <Empty title={words.noCard} lead={words.noCardLead} command={`aidos model push model.onnx --name ${model.name} --card README.md`} />}
    </Section>
  );
}

const read = async (name: string) => {
  const { data, response } = await http.GET("/api/v1/models/{name}", { params: { path: { name } } });
  return { card: data!.card ?? "", tag: response.headers.get("etag") };
};

function Editor({ name, card, close }: { name: string; card: string; close: () => void }) {
  const queries = useQueryClient();
  const [base, setBase] = useState(card);
  const [typed, setTyped] = useState(card);
  const [clash, setClash] = useState<{ merge: Merge; theirs: string }>();
  const [error, setError] = useState<unknown>();
  const [busy, setBusy] = useState(false);

  const save = async (from: string, mine: string): Promise<void> => {
    setBusy(true);
    setError(undefined);
    try {
      const { card: theirs, tag } = await read(name);
      const made = merge({ card: from }, { card: mine }, { card: theirs });
      if (made.clashes.length > 0) return setClash({ merge: made, theirs });
      await http.PATCH("/api/v1/models/{name}", { params: { path: { name }, header: { "If-Match": tag } }, body: { card: mine } as Schemas["PatchModel"] });
      await queries.invalidateQueries({ predicate: ({ queryKey }) => String(queryKey[1]).startsWith("/api/v1/models") });
      told(words.saved);
      close();
    } catch (failure) {
      if (isStatus(failure, 412)) return await save(from, mine);
      setError(failure);
    } finally {
      setBusy(false);
    }
  };
  if (clash) {
    const settled = (mine: string) => {
      setBase(clash.theirs);
      setTyped(mine);
      setClash(undefined);
      void save(clash.theirs, mine);
    };
    return <MergeForm merge={clash.merge} busy={busy} onCancel={() => setClash(undefined)} onSettled={(fields) => settled(fields.card ?? "")} />;
  }
  const objection = objectionIn(error);
  return (
    <form onSubmit={(event) => (event.preventDefault(), void save(base, typed))}>
      <Stack>
        <Textarea aria-label={words.tabs.card} autosize minRows={12} maxRows={30} classNames={{ input: "mono" }} value={typed} error={objection && <Wrong objection={objection} />} onChange={(event) => setTyped(event.currentTarget.value)} />
        {error !== undefined && !objection && <ErrorPanel error={error} />}
        <Group justify="space-between">
          <Text size="xs" className="dim">Markdown</Text>
          <Group>
            <Button variant="default" onClick={close}>{text.ui.cancel}</Button>
            <Button type="submit" loading={busy}>{text.ui.save}</Button>
          </Group>
        </Group>
      </Stack>
    </form>
  );
}
