/** The versions of a model, the line from one to the next, and what the chosen one takes and gives. */
import { ActionIcon, Button, Group, Skeleton, Text, TextInput } from "@mantine/core";
import { IconX } from "@tabler/icons-react";
import { useQueryClient } from "@tanstack/react-query";
import { getRouteApi } from "@tanstack/react-router";
import { lazy, Suspense, useState } from "react";
import { api, http, type Schemas } from "~/api/client";
import { objectionIn, type Objection } from "~/api/objection";
import { session } from "~/api/session";
import { text } from "~/text";
import { bytes, integer } from "~/ui/format";
import { ButtonLink } from "~/ui/ButtonLink";
import { MorePages } from "~/ui/MorePages";
import { Name } from "~/ui/Name";
import { rowsOf, type Pages } from "~/ui/paging";
import { Empty, KeyValue, Section } from "~/ui/Section";
import { TimeAgo } from "~/ui/TimeAgo";
import { failed, told } from "~/ui/toast";
import { Wrong } from "~/ui/Wrong";
import { Lineage } from "./Lineage";
import { useVersion } from "./useVersion";

const CardText = lazy(async () => ({ default: (await import("./CardText")).CardText }));
const words = text.models;
const route = getRouteApi("/shell/models/$model");
type Version = Schemas["ModelVersionView"];

export function Versions({ model, pages }: { model: Schemas["ModelView"]; pages: Pages<Version> }) {
  const search = route.useSearch();
  const versions = rowsOf(pages);
  const { version: chosen, pending } = useVersion(model.name, search.version, versions);
  if (!chosen) return <div className="section"><Empty title={words.noVersions} command={`aidos model push model.onnx --name ${model.name}`} /></div>;
  return (
    <div className="grid">
      <div className="span-5 stack">
        <Section title={words.tabs.versions}>
          <div className="lineage-frame">
            <Lineage model={model} versions={versions} chosen={chosen.version} />
            <MorePages pages={pages} />
          </div>
        </Section>
      </div>
      <div className="span-7 stack">
        {pending ? <Skeleton height={240} /> : <Facts model={model} version={chosen} />}
      </div>
    </div>
  );
}

function Facts({ model, version }: { model: Schemas["ModelView"]; version: Version }) {
  const { facts } = version;
  return (
    <>
      <Section
        title={`${words.version} ${version.version}`}
        aside={session.may("operator") && <ButtonLink size="xs" variant="default" to="/rollouts/new" search={{ subject: `${model.name}@${version.version}` }}>{words.rollOut}</ButtonLink>}
      >
        <KeyValue
          items={[
            [words.size, bytes(version.size)],
            [words.parameters, integer(facts.parameters)],
            [words.created, <TimeAgo key="c" at={version.created_at} />],
            [words.by, <Name key="b" mono>{version.created_by}</Name>],
            [words.format, facts.format],
            [words.producer, facts.producer && <Name key="p">{facts.producer}</Name>],
            [words.source, version.source && <Name key="s">{version.source}</Name>],
            [words.golden, version.golden ? words.yes : words.no],
            [words.digest, <span key="d" className="mono">{version.digest}</span>],
          ]}
        />
        <Aliases model={model} version={version} />
      </Section>
      <VersionCard name={model.name} version={version.version} />
      <Tensors title={words.inputs} tensors={facts.inputs} />
      <Tensors title={words.outputs} tensors={facts.outputs} />
      <Section title={words.operators}>
        <span className="chips">
          {Object.entries(facts.operators).sort(([, a], [, b]) => Number(b) - Number(a)).map(([name, times]) => <span key={name} className="chip"><Name>{`${name} × ${times}`}</Name></span>)}
        </span>
      </Section>
    </>
  );
}

/** What its publisher wrote about this version; lists come without it. */
function VersionCard({ name, version }: { name: string; version: number }) {
  const { data } = api.useQuery("get", "/api/v1/models/{name}/versions/{version}", { params: { path: { name, version: String(version) } } });
  if (!data?.card) return null;
  return <Section title={words.versionCard}><Suspense><CardText>{data.card}</CardText></Suspense></Section>;
}

function Tensors({ title, tensors }: { title: string; tensors: readonly Schemas["TensorFacts"][] }) {
  return (
    <Section title={title}>
      <table className="plain">
        <tbody>
          {tensors.map((tensor) => (
            <tr key={tensor.name}><td className="mono"><Name>{tensor.name}</Name></td><td className="mono">{tensor.dtype}</td><td className="mono">[{tensor.shape?.join(", ") ?? "…"}]</td></tr>
          ))}
        </tbody>
      </table>
    </Section>
  );
}

function Aliases({ model, version }: { model: Schemas["ModelView"]; version: Version }) {
  const queries = useQueryClient();
  const [alias, setAlias] = useState("");
  const [wrong, setWrong] = useState<Objection>();
  const fresh = () => queries.invalidateQueries({ predicate: ({ queryKey }) => String(queryKey[1]).startsWith("/api/v1/models") });
  const point = async (name: string, to: number | undefined) => {
    const params = { path: { name: model.name, alias: name } };
    if (to === undefined) await http.DELETE("/api/v1/models/{name}/aliases/{alias}", { params });
    else await http.PUT("/api/v1/models/{name}/aliases/{alias}", { params, body: { version: to } });
    await fresh();
  };
  const change = async (name: string, to: number | undefined) => {
    const before = (model.aliases as Record<string, number>)[name];
    setWrong(undefined);
    try {
      await point(name, to);
      told(to === undefined ? words.aliasRemoved(name) : words.pointAlias(name, to), { undo: () => void point(name, before).catch(failed) });
      setAlias("");
    } catch (error) {
      const objection = to === undefined ? undefined : objectionIn(error);
      if (objection) setWrong(objection);
      else failed(error);
    }
  };
  return (
    <div style={{ marginTop: 16 }}>
      <Text size="xs" className="dim" mb={4}>{words.aliases}</Text>
      <Group gap="xs">
        {version.aliases.map((name) => (
          <span key={name} className="chip">
            <Name>{name}</Name>
            {session.may("operator") && <ActionIcon size={18} variant="subtle" color="gray" aria-label={words.removeAlias(name)} onClick={() => void change(name, undefined)}><IconX size={12} /></ActionIcon>}
          </span>
        ))}
        {session.may("operator") && (
          <form onSubmit={(event) => (event.preventDefault(), void change(alias.trim(), version.version))}>
            <Group gap={6} wrap="nowrap" align="start">
              <TextInput size="xs" aria-label={words.alias} placeholder={words.aliasExample} value={alias} error={wrong && <Wrong objection={wrong} />} onChange={(event) => setAlias(event.currentTarget.value)} />
              <Button size="xs" type="submit" variant="default" disabled={!alias.trim()}>{words.setAlias}</Button>
            </Group>
          </form>
        )}
      </Group>
    </div>
  );
}
