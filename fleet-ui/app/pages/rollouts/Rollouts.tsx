/** All rollouts, newest first. */
import { Select, TextInput } from "@mantine/core";
import { IconRocket } from "@tabler/icons-react";
import { getRouteApi } from "@tanstack/react-router";
import { useEffect, useState } from "react";
import { api, http, type Schemas } from "~/api/client";
import { session } from "~/api/session";
import { text } from "~/text";
import { integer } from "~/ui/format";
import { ButtonLink } from "~/ui/ButtonLink";
import { Name } from "~/ui/Name";
import { PAGE, paging } from "~/ui/paging";
import { RowLink } from "~/ui/RowLink";
import { ResourceTable, type ResourceColumn } from "~/ui/ResourceTable";
import { Empty, PageHead } from "~/ui/Section";
import { StateBadge, type Tone } from "~/ui/StateBadge";
import { TimeAgo } from "~/ui/TimeAgo";
import { PHASES } from "./routes";
import { outcomeParts, WaveBar } from "./WaveBar";

type Rollout = Schemas["RolloutView"];
const words = text.rollouts;
const route = getRouteApi("/shell/rollouts");

export const PHASE_TONES: Record<Rollout["phase"], Tone> = { running: "busy", paused: "warn", finished: "good", aborted: "bad", superseded: "quiet" };

const devicesOf = (rollout: Rollout) => rollout.waves.reduce((sum, wave) => sum + wave.devices, 0);

const columns: readonly ResourceColumn<Rollout>[] = [
  {
    id: "subject", header: words.subject, width: "minmax(6rem, 1.4fr)", value: ({ subject, version }) => `${subject}@${version}`,
    cell: ({ id, subject, version }) => <RowLink className="main" to="/rollouts/$rollout" id={id}><Name>{`${subject}@${version}`}</Name></RowLink>,
  },
  { id: "selector", header: words.selector, width: "minmax(8rem, 1.4fr)", wide: true, value: ({ selector }) => selector, cell: ({ selector }) => <Name mono>{selector || text.rollouts.everyone}</Name> },
  { id: "phase", header: words.phase, width: "6.5rem", value: ({ phase }) => phase, cell: ({ phase }) => <StateBadge tone={PHASE_TONES[phase]}>{words.phases[phase]}</StateBadge> },
  { id: "progress", header: words.progress, width: "minmax(3.5rem, 1.4fr)", value: (rollout) => rollout.waves.reduce((sum, wave) => sum + wave.succeeded, 0), cell: ({ waves }) => <WaveBar parts={outcomeParts(waves)} /> },
  { id: "devices", header: text.devices.title, width: "5rem", end: true, wide: true, value: devicesOf, cell: (rollout) => integer(devicesOf(rollout)) },
  { id: "created", header: words.created, width: "7.5rem", end: true, wide: true, value: ({ created_at }) => new Date(created_at / 1_000).toISOString(), cell: ({ created_at }) => <TimeAgo at={created_at} /> },
];

export function Rollouts() {
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const query = { ...(search.subject && { subject: search.subject }), ...(search.phase && { phase: search.phase }) };
  const rollouts = api.useInfiniteQuery("get", "/api/v1/rollouts", { params: { query: { limit: PAGE, ...query } } }, paging);
  const [typed, setTyped] = useState(search.subject ?? "");
  useEffect(() => setTyped(search.subject ?? ""), [search.subject]);
  const filter = (change: Partial<typeof search>) => void navigate({ search: (before) => ({ ...before, ...change }), replace: true });
  const filtered = search.phase !== undefined || search.subject !== undefined;

  return (
    <>
      <PageHead title={words.title}>
        {session.may("operator") && <ButtonLink to="/rollouts/new" leftSection={<IconRocket size={16} />}>{words.new}</ButtonLink>}
      </PageHead>
      <div className="filters">
        <TextInput
          className="grow"
          aria-label={words.subject}
          placeholder={words.subjectFilter}
          value={typed}
          onChange={(event) => setTyped(event.currentTarget.value)}
          onBlur={() => filter({ subject: typed.trim() || undefined })}
          onKeyDown={(event) => event.key === "Enter" && filter({ subject: typed.trim() || undefined })}
        />
        <Select
          aria-label={words.phase}
          placeholder={words.anyPhase}
          clearable
          clearButtonProps={{ "aria-label": text.ui.remove }}
          value={search.phase ?? null}
          data={PHASES.map((value) => ({ value, label: words.phases[value] }))}
          onChange={(phase) => filter({ phase: PHASES.find((one) => one === phase) })}
        />
      </div>
      <ResourceTable
        label={words.title}
        pages={rollouts}
        columns={columns}
        rowId={({ id }) => id}
        read={(page) => http.GET("/api/v1/rollouts", { params: { query: { ...query, ...page } } })}
        empty={
          <div className="section">
            {filtered ? <Empty title={words.noneMatch} /> : <Empty title={words.none} lead={words.noneLead} command="aidos rollout create digits@2 --to site=lab --waves 1%,10%,100% --soak 10m" />}
          </div>
        }
      />
    </>
  );
}
