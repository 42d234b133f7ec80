/** Makes a join token, and shows the line to run. */
import { Button, Group, NumberInput, Stack, Text, TextInput } from "@mantine/core";
import { useState } from "react";
import { http, type Schemas } from "~/api/client";
import { objectionIn } from "~/api/objection";
import { session } from "~/api/session";
import { text } from "~/text";
import { ErrorPanel } from "~/ui/ErrorPanel";
import { Empty, PageHead, Section } from "~/ui/Section";
import { Wrong } from "~/ui/Wrong";
import { JoinLine } from "./JoinLine";
import { readLabels } from "./labels";
import { lineFor } from "./line";

const words = text.enrol;
const LONGEST_NAME = 253;
const MOST_USES = 100_000;
const LONGEST_MINUTES = 129_600;

/** A token with the line that was made of it. */
interface Made {
  readonly token: Schemas["CreatedToken"];
  readonly line: string;
}

export function Enrol() {
  const [name, setName] = useState("");
  const [uses, setUses] = useState(1);
  const [minutes, setMinutes] = useState(60);
  const [labels, setLabels] = useState("site=lab");
  const [made, setMade] = useState<Made>();
  const [error, setError] = useState<unknown>();
  const [busy, setBusy] = useState(false);
  const read = readLabels(labels);

  const make = async () => {
    setBusy(true);
    setError(undefined);
    try {
      const { data } = await http.POST("/api/v1/tokens", { body: { uses, ttl_s: minutes * 60, labels: read.labels } });
      if (data) setMade({ token: data, line: lineFor(data.command, uses === 1 ? name : "") });
    } catch (failure) {
      setError(failure);
    } finally {
      setBusy(false);
    }
  };
  if (!session.may("operator")) {
    return (
      <>
        <PageHead title={words.title} />
        <div className="section"><Empty title={words.role} lead={text.errors.advice(403)} /></div>
      </>
    );
  }
  const objection = objectionIn(error);
  const said = (name: string) => objection?.field === name && <Wrong objection={objection} />;
  const placed = ["uses", "ttl_s", "labels"].includes(objection?.field ?? "");
  return (
    <>
      <PageHead title={words.title} />
      <div className="grid">
        <div className="span-5">
          <Section title={words.token}>
            <form onSubmit={(event) => (event.preventDefault(), void make())}>
              <Stack>
                <Text size="sm" className="dim">{words.lead}</Text>
                <Group grow align="start">
                  <NumberInput label={words.uses} min={1} max={MOST_USES} allowDecimal={false} value={uses} error={said("uses")} onChange={(value) => setUses(Number(value) || 1)} />
                  <NumberInput label={words.minutes} min={1} max={LONGEST_MINUTES} allowDecimal={false} value={minutes} error={said("ttl_s")} onChange={(value) => setMinutes(Number(value) || 1)} />
                </Group>
                {uses === 1 && <TextInput label={words.name} description={words.nameHelp} maxLength={LONGEST_NAME} value={name} onChange={(event) => setName(event.currentTarget.value)} />}
                <TextInput
                  label={words.labels} classNames={{ input: "mono" }} placeholder="site=lab,zone=a" value={labels}
                  error={read.wrong ? words.wrongLabel(read.wrong) : said("labels")} onChange={(event) => setLabels(event.currentTarget.value)}
                />
                {error !== undefined && !placed && <ErrorPanel error={error} />}
                <Button type="submit" loading={busy} disabled={read.wrong !== undefined}>{made ? words.again : words.make}</Button>
              </Stack>
            </form>
          </Section>
        </div>
        <div className="span-7">{made && <JoinLine key={made.token.id} token={made.token} line={made.line} again={() => void make()} />}</div>
      </div>
    </>
  );
}
