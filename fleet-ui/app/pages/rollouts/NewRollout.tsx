/** What to roll out, to whom and how, beside what would happen. Everything is filled in, so that two clicks are enough. */
import { Alert, Autocomplete, Button, SegmentedControl, Stack, Text } from "@mantine/core";
import { useDebouncedValue, useMediaQuery } from "@mantine/hooks";
import { getRouteApi, useNavigate } from "@tanstack/react-router";
import { useEffect, useState, type ReactNode } from "react";
import { api, type Schemas } from "~/api/client";
import { objectionOf } from "~/api/objection";
import { ApiError } from "~/api/problem";
import { session } from "~/api/session";
import { text } from "~/text";
import { ErrorPanel } from "~/ui/ErrorPanel";
import { PageHead, Section } from "~/ui/Section";
import { SelectorInput } from "~/ui/SelectorInput";
import { told } from "~/ui/toast";
import { Wrong } from "~/ui/Wrong";
import { Forecast } from "./Forecast";
import { planOf, PLANS } from "./plan";
import { PLAN_FIELDS, PlanFields } from "./PlanFields";
import "./rollouts.css";
import { PRESETS } from "./routes";
import { usePlanForm } from "./usePlanForm";

const words = text.rollouts;
const route = getRouteApi("/shell/rollouts/new");
const SETTLE_MS = 400;
/** Parts of the request that the one field for a version stands for. */
const SUBJECT_FIELDS: ReadonlySet<string> = new Set(["subject", "model", "version", "alias"]);

export function NewRollout() {
  const search = route.useSearch();
  const setSearch = route.useNavigate();
  const narrow = useMediaQuery("(max-width: 480px)");
  const navigate = useNavigate();
  const how = search.how ?? "careful";
  const selector = search.to ?? "";
  const [subject, setSubject] = useState(search.subject ?? "");
  useEffect(() => setSubject(search.subject ?? ""), [search.subject]);
  const change = (changed: Partial<typeof search>) => void setSearch({ search: (before) => ({ ...before, ...changed }), replace: true, resetScroll: false });
  const [own, setOwn] = usePlanForm(search, change);

  const wish = { subject: subject.trim(), selector, plan: planOf(how === "custom" ? own : PLANS[how]) } as Schemas["CreateRollout"];
  const [settled] = useDebouncedValue(JSON.stringify(wish), SETTLE_MS);
  const forecast = api.useQuery(
    "post", "/api/v1/rollouts",
    { params: { query: { dry_run: true } }, body: JSON.parse(settled) as typeof wish },
    { enabled: wish.subject.includes("@"), retry: false, staleTime: 10_000 },
  );
  const create = api.useMutation("post", "/api/v1/rollouts");
  const start = () => create.mutate({ params: { query: {} }, body: wish }, {
    onSuccess: (made) => {
      if (!("id" in made)) return;
      told(words.started(`${made.subject}@${made.version}`), { to: `/rollouts/${made.id}` });
      void navigate({ to: "/rollouts/$rollout", params: { rollout: made.id } });
    },
  });
  const refused = wish.subject.includes("@") && forecast.error instanceof ApiError ? forecast.error : undefined;
  // A version that is not there is named by the subject alone.
  const objection = refused?.status === 404 ? { field: "subject", reason: refused.message } : refused?.status === 422 ? objectionOf(refused.problem) : undefined;
  const ofSubject = objection && SUBJECT_FIELDS.has(objection.field) ? objection : undefined;
  const atField = objection && (ofSubject || objection.field === "selector" || (how === "custom" && PLAN_FIELDS.has(objection.field)));
  const view = forecast.data && "matching" in forecast.data ? forecast.data : undefined;

  return (
    <>
      <PageHead title={words.newTitle}>
        {session.may("operator") && (
          <Button onClick={start} loading={create.isPending} disabled={!view || view.matching === 0 || settled !== JSON.stringify(wish)}>{words.start}</Button>
        )}
      </PageHead>
      {create.error && <div style={{ marginBottom: 16 }}><ErrorPanel error={create.error} /></div>}
      <div className="grid">
        <div className="span-7">
          <Section title={words.what}>
            <Stack>
              <SubjectInput value={subject} error={ofSubject && <Wrong objection={ofSubject} />} onChange={setSubject} onLeave={(value) => change({ subject: value || undefined })} />
              <SelectorInput value={selector} label={words.selector} onChange={(to) => change({ to: to || undefined })} error={objection?.field === "selector" ? refused : undefined} />
              <div>
                <Text size="sm" fw={500} mb={6} id="how">{words.how}</Text>
                <SegmentedControl
                  fullWidth
                  orientation={narrow ? "vertical" : "horizontal"}
                  aria-labelledby="how"
                  value={how}
                  onChange={(value) => change({ how: PRESETS.find((preset) => preset === value) })}
                  data={PRESETS.map((value) => ({ value, label: words.presets[value] }))}
                />
                <Text size="sm" className="dim" mt={6}>{words.presetHelp[how]}</Text>
              </div>
              {how === "custom" && <PlanFields form={own} onChange={setOwn} objection={objection} />}
            </Stack>
          </Section>
        </div>
        <div className="span-5">
          <Section title={words.preview}>
            {atField ? <Alert variant="default" role="alert" title={words.notTaken}><Wrong objection={objection} /></Alert> : refused ? <ErrorPanel error={refused} /> : <Forecast forecast={view} wanted={wish.subject.includes("@")} error={forecast.error} />}
          </Section>
        </div>
      </div>
    </>
  );
}

interface SubjectProps {
  readonly value: string;
  readonly error: ReactNode;
  readonly onChange: (value: string) => void;
  readonly onLeave: (value: string) => void;
}

/** A version by name and number or alias, completed from what the registry has. */
function SubjectInput({ value, error, onChange, onLeave }: SubjectProps) {
  const models = api.useQuery("get", "/api/v1/models", { params: { query: { limit: 200 } } });
  const releases = api.useQuery("get", "/api/v1/agent-releases", { params: { query: { limit: 50 } } });
  const known = [
    ...(models.data?.items ?? []).flatMap(({ name, latest_version, aliases }) => [
      ...(latest_version ? [`${name}@${latest_version}`] : []),
      ...Object.keys(aliases).map((alias) => `${name}@${alias}`),
    ]),
    ...new Set((releases.data?.items ?? []).map(({ version }) => `agent.release@${version}`)),
  ];
  return (
    <Autocomplete
      label={words.chooseModel}
      description={words.subjectHelp}
      classNames={{ input: "mono" }}
      value={value}
      error={error}
      data={known}
      limit={12}
      spellCheck={false}
      onChange={onChange}
      onOptionSubmit={onLeave}
      onBlur={() => onLeave(value.trim())}
    />
  );
}
