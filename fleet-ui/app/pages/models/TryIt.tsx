/** Runs one request on a device: from an image, a `.npy` file or JSON, and shows what came back. */
import { Button, FileButton, Group, Progress, SegmentedControl, Select, Stack, Text, Textarea } from "@mantine/core";
import { getRouteApi } from "@tanstack/react-router";
import { useEffect, useMemo, useState, type DragEvent } from "react";
import { http, type Schemas } from "~/api/client";
import { text } from "~/text";
import { ErrorPanel } from "~/ui/ErrorPanel";
import { decimal } from "~/ui/format";
import { Name } from "~/ui/Name";
import { Empty, Section } from "~/ui/Section";
import { rank, type Output } from "./answer";
import { imageTensor, pixelsOf } from "./image";
import { readNpy, type Tensor } from "./npy";
import { useRunningDevices } from "./useRunningDevices";
import { useVersion } from "./useVersion";

const words = text.models;
const route = getRouteApi("/shell/models/$model");
const MAX_FILE_BYTES = 32 << 20;
const SHOWN = 10;
const SHOWN_JSON = 20_000;

interface Answer {
  readonly outputs: readonly Output[];
  readonly ms: number;
}

export function TryIt({ model, versions }: { model: string; versions: readonly Schemas["ModelVersionView"][] }) {
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const devices = useRunningDevices(model);
  const device = search.device ?? devices.data?.[0]?.id;
  const running = devices.data?.find(({ id }) => id === device)?.version;
  const { version: answering } = useVersion(model, running?.toString(), versions);
  const image = answering?.manifest?.image ?? undefined;
  const [how, setHow] = useState(image ? "file" : "json");
  const [request, setRequest] = useState(() => example(answering));
  const [file, setFile] = useState<File>();
  const [answer, setAnswer] = useState<Answer>();
  const [error, setError] = useState<unknown>();
  const [busy, setBusy] = useState(false);
  const picture = usePicture(file);

  const run = async (inputs: () => Promise<unknown>) => {
    setBusy(true);
    setError(undefined);
    try {
      const body = await inputs();
      const begun = performance.now();
      const { data } = await http.POST("/api/v1/devices/{device}/infer/{model}", { params: { path: { device: device!, model } }, body: body as never, headers: { "content-type": "application/json" } });
      setAnswer({ outputs: (data as unknown as { outputs: Output[] }).outputs ?? [], ms: performance.now() - begun });
    } catch (failure) {
      setError(failure);
      setAnswer(undefined);
    } finally {
      setBusy(false);
    }
  };
  const tensor = async (chosen: File): Promise<Tensor> => {
    if (chosen.size > MAX_FILE_BYTES) throw new Error(words.tooLarge);
    if (chosen.name.endsWith(".npy")) return readNpy(answering?.facts.inputs[0]?.name ?? "input", await chosen.arrayBuffer());
    if (!image) throw new Error(words.noImageInput);
    return imageTensor(await pixelsOf(chosen, image.width, image.height), image);
  };
  const take = (chosen: File | null | undefined) => {
    if (!chosen || !device) return;
    setFile(chosen);
    void run(async () => ({ inputs: [await tensor(chosen)] }));
  };
  const typed = () => run(async () => {
    try {
      return JSON.parse(request) as unknown;
    } catch (cause) {
      throw new Error(`${words.badJson}: ${String(cause)}`);
    }
  });

  if (devices.data?.length === 0) return <div className="section"><Empty title={words.noDevice} command={`aidos deploy ${model}@1 --to site=lab --wait`} /></div>;
  return (
    <div className="grid">
      <div className="span-6">
        <Section title={words.tabs.try}>
          <Stack>
            <Text size="sm" className="dim">{words.tryLead}</Text>
            {devices.error && <ErrorPanel error={devices.error} />}
            <Select label={words.device} searchable allowDeselect={false} value={device ?? null} data={(devices.data ?? []).map(({ id, name, version }) => ({ value: id, label: words.deviceRuns(name.slice(0, 80), version) }))} onChange={(value) => void navigate({ search: (before) => ({ ...before, device: value ?? undefined }), replace: true })} />
            <SegmentedControl aria-label={words.how} value={how} onChange={setHow} data={[{ value: "file", label: words.fromFile }, { value: "json", label: "JSON" }]} />
            {how === "file" ? (
              <Drop take={take}>
                {picture && <img src={picture} alt={file?.name ?? ""} />}
                {file && <Name>{file.name}</Name>}
                <span className="dim">{words.dropFile}</span>
                <FileButton onChange={take} accept=".npy,image/png,image/jpeg,image/webp">
                  {(props) => <Button variant="default" loading={busy} disabled={!device} {...props}>{words.chooseFile}</Button>}
                </FileButton>
              </Drop>
            ) : (
              <>
                <Textarea label={words.json} classNames={{ input: "mono" }} autosize minRows={8} maxRows={20} value={request} onChange={(event) => setRequest(event.currentTarget.value)} />
                <Group><Button loading={busy} disabled={!device} onClick={() => void typed()}>{words.run}</Button></Group>
              </>
            )}
          </Stack>
        </Section>
      </div>
      <div className="span-6" aria-live="polite">
        {error !== undefined ? <ErrorPanel error={error} /> : answer && <Shown answer={answer} labels={answering?.manifest?.labels ?? []} />}
      </div>
    </div>
  );
}

function Shown({ answer, labels }: { answer: Answer; labels: readonly string[] }) {
  const ranked = rank(answer.outputs[0], labels);
  return (
    <Section title={words.answer} aside={<Text span size="sm" className="dim nums">{words.took(answer.ms)}</Text>}>
      {ranked ? (
        <div className="answer">
          {ranked.slice(0, SHOWN).map(({ label, value }) => (
            <div key={label} className="answer-row">
              <Name>{label}</Name>
              <Progress value={Math.max(0, Math.min(1, value)) * 100} aria-label={label} />
              <span className="nums end">{value >= 0 && value <= 1 ? `${decimal(value * 100)} %` : decimal(value)}</span>
            </div>
          ))}
        </div>
      ) : <pre className="logs" tabIndex={0}>{JSON.stringify(answer.outputs, undefined, 1).slice(0, SHOWN_JSON)}</pre>}
    </Section>
  );
}

function Drop({ take, children }: { take: (file: File | undefined) => void; children: React.ReactNode }) {
  const [over, setOver] = useState(false);
  const on = (event: DragEvent, now: boolean) => {
    event.preventDefault();
    setOver(now);
  };
  return (
    <div
      className={over ? "drop drop-over" : "drop"}
      onDragOver={(event) => on(event, true)}
      onDragLeave={(event) => on(event, false)}
      onDrop={(event) => (on(event, false), take(event.dataTransfer.files[0]))}
    >
      {children}
    </div>
  );
}

/** The address of the picture in `file`, where it is one. */
function usePicture(file: File | undefined): string | undefined {
  const url = useMemo(() => (file?.type.startsWith("image/") ? URL.createObjectURL(file) : undefined), [file]);
  useEffect(() => () => {
    if (url) URL.revokeObjectURL(url);
  }, [url]);
  return url;
}

/** A request of zeros, where the shape is known. */
function example(version: Schemas["ModelVersionView"] | undefined): string {
  const inputs = (version?.facts.inputs ?? []).map(({ name, dtype, shape }) => {
    const known = (shape ?? ["1"]).map((n) => Number(n) || 1);
    const count = Math.min(64, known.reduce((product, n) => product * n, 1));
    return { name, datatype: dtype, shape: known, data: Array.from({ length: count }, () => 0) };
  });
  return JSON.stringify({ inputs }, undefined, 1).replace(/\[\s+([^[\]]*?)\s+\]/g, (_, list: string) => `[${list.replace(/\s+/g, " ")}]`);
}
