/** One rollout: how far it is, on whom, by what measure, why it stopped, and what a person can do about it. */
import { Alert, Select, Skeleton, Text } from "@mantine/core";
import { getRouteApi, Link } from "@tanstack/react-router";
import { api, http, type Schemas } from "~/api/client";
import { session } from "~/api/session";
import { Events } from "~/pages/activity/Events";
import { text } from "~/text";
import { ErrorPanel } from "~/ui/ErrorPanel";
import { bytes, dateTime, decimal, duration, integer, percent } from "~/ui/format";
import { Name } from "~/ui/Name";
import { PAGE, paging } from "~/ui/paging";
import { ResourceTable, type ResourceColumn } from "~/ui/ResourceTable";
import { RowLink } from "~/ui/RowLink";
import { Empty, KeyValue, PageHead, Section } from "~/ui/Section";
import { StateBadge } from "~/ui/StateBadge";
import { TimeAgo } from "~/ui/TimeAgo";
import { CellMap } from "./CellMap";
import { OUTCOMES } from "./cells";
import { Gates } from "./Gates";
import { PHASE_TONES } from "./Rollouts";
import "./rollouts.css";
import { Steer } from "./Steer";
import { useCells } from "./useCells";
import { OutcomeLegend, outcomeParts, TONES, WaveBar } from "./WaveBar";

type Rollout = Schemas["RolloutView"];
const words = text.rollouts;
const route = getRouteApi("/shell/rollouts/$rollout");

export function Rollout() {
  const { rollout: id } = route.useParams();
  const rollout = api.useQuery("get", "/api/v1/rollouts/{id}", { params: { path: { id } } });
  const history = api.useQuery("get", "/api/v1/rollouts/{id}/history", { params: { path: { id }, query: { limit: 50 } } });
  const { cells, error: cellsError } = useCellsOf(id);
  if (rollout.error && !rollout.data) return <ErrorPanel error={rollout.error} retry={rollout.refetch} />;
  const view = rollout.data;
  if (!view) return <Skeleton height={320} />;
  const parts = outcomeParts(view.waves);

  return (
    <>
      <PageHead
        title={`${view.subject}@${view.version}`}
        heading={<><span className="clamp" style={{ WebkitLineClamp: 2 }}>{view.subject}@{view.version}</span> <StateBadge tone={PHASE_TONES[view.phase]}>{words.phases[view.phase]}</StateBadge></>}
      >
        {session.may("operator") && <Steer rollout={view} />}
      </PageHead>
      <Why rollout={view} />
      <div className="grid">
        <div className="span-8 stack">
          <Section title={words.progress} aside={<Text span size="sm" className="dim nums">{words.done(view.waves.reduce((sum, wave) => sum + wave.succeeded, 0), view.waves.reduce((sum, wave) => sum + wave.devices, 0))}</Text>}>
            <WaveBar parts={parts} tall />
            <OutcomeLegend parts={parts} />
            <div className="scroll-x">
              <table className="plain" style={{ marginTop: 16 }}>
                <thead><tr><th>{words.waves}</th><th>{words.share}</th><th className="end">{text.devices.title}</th><th style={{ width: "45%" }}>{words.progress}</th><th>{text.devices.state}</th></tr></thead>
                <tbody>
                  {view.waves.map((wave, index) => (
                    <tr key={index}>
                      <td className="nowrap"><Link to="." search={(before) => ({ ...before, wave: String(index + 1) })}>{words.wave(index + 1)}</Link></td>
                      <td className="mono">{wave.share}</td>
                      <td className="end nums">{integer(wave.devices)}</td>
                      <td><WaveBar parts={outcomeParts([wave])} /></td>
                      <td className="dim nowrap">{stageOf(view, index)}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          </Section>
          <Section title={words.cells}>
            {cellsError && !cells ? <ErrorPanel error={cellsError} /> : cells ? cells.outcomes.length > 0 ? <CellMap cells={cells} /> : <Text size="sm" className="dim">{words.nobody}</Text> : <Skeleton height={160} />}
          </Section>
          <Gates key={view.id} rollout={view} />
        </div>
        <div className="span-4 stack">
          <Section title={words.plan}>
            <KeyValue
              items={[
                [words.selector, <Name key="s" mono>{view.selector || words.everyone}</Name>],
                [words.bytes, bytes(view.bytes_fetched)],
                [words.saved, bytes(view.bytes_saved)],
                [words.created, <TimeAgo key="c" at={view.created_at} />],
                ...(view.soak_until ? [[words.soakUntil, <TimeAgo key="u" at={view.soak_until} />] as const] : []),
                ...(view.plan.window ? [[words.window, view.plan.window] as const] : []),
                ...(view.plan.max_unavailable ? [[words.maxUnavailable, view.plan.max_unavailable] as const] : []),
                [words.maxFailed, view.plan.max_failed],
                ...(view.plan.deadline_s ? [[words.silentAfter, duration(view.plan.deadline_s)] as const] : []),
                ...(view.plan.not_after_us ? [[words.notAfter, dateTime(view.plan.not_after_us / 1_000)] as const] : []),
                ...(view.plan.experiment ? [[words.experimentTitle, `${view.plan.experiment.kind} ${percent(view.plan.experiment.percent)}`] as const] : []),
                ...(view.plan.min_battery_percent != null ? [[words.minBattery, percent(view.plan.min_battery_percent)] as const] : []),
                ...(view.plan.max_temperature_c != null ? [[words.maxTemperature, `${decimal(view.plan.max_temperature_c)} °C`] as const] : []),
                ...(view.plan.approve ? [[words.approve, words.yes] as const] : []),
                ...(view.undoes ? [[words.undoes, <Link key="r" to="/rollouts/$rollout" params={{ rollout: view.undoes }}><Name mono>{view.undoes}</Name></Link>] as const] : []),
              ]}
            />
          </Section>
          <Section title={words.timeline}>
            {history.error && !history.data ? <ErrorPanel error={history.error} /> : history.data ? <Events items={history.data.items} /> : <Skeleton height={160} />}
          </Section>
        </div>
      </div>
      <Members id={id} waves={view.waves.length} />
    </>
  );
}

function useCellsOf(id: string) {
  const answer = useCells(id);
  return { cells: answer.data, error: answer.error };
}

function stageOf(rollout: Rollout, index: number): string {
  if (index + 1 < rollout.wave) return words.phases.finished;
  if (index + 1 > rollout.wave) return words.outcomes.waiting;
  return rollout.phase === "running" ? words.stages[rollout.stage] : words.phases[rollout.phase];
}

function Why({ rollout }: { rollout: Rollout }) {
  if (!rollout.reason && !rollout.reverted && !rollout.superseded_by) return null;
  return (
    <Alert variant="default" role="status" className="why" title={rollout.phase === "paused" ? words.waits : words.stopped}>
      {rollout.reason && <div className="wrap"><bdi>{rollout.reason}</bdi></div>}
      {rollout.reverted && <div>{words.reverted}</div>}
      {rollout.superseded_by && <Link to="/rollouts/$rollout" params={{ rollout: rollout.superseded_by }}>{words.superseded}</Link>}
    </Alert>
  );
}

type Member = Schemas["RolloutDeviceView"];

const columns: readonly ResourceColumn<Member>[] = [
  { id: "name", header: words.name, width: "minmax(9rem, 2fr)", value: ({ name }) => name, cell: ({ device, name }) => <RowLink className="main" to="/devices/$device" id={device}><Name>{name || device}</Name></RowLink> },
  { id: "wave", header: words.waveShort, width: "4rem", end: true, value: ({ wave }) => wave, cell: ({ wave }) => wave },
  { id: "outcome", header: words.outcome, width: "7.5rem", value: ({ outcome }) => outcome, cell: ({ outcome }) => <StateBadge tone={TONES[outcome]}>{words.outcomes[outcome]}</StateBadge> },
  { id: "reason", header: words.reason, width: "minmax(8rem, 3fr)", wide: true, value: ({ reason }) => reason, cell: ({ reason }) => <Name>{reason ?? ""}</Name> },
  { id: "updated", header: words.updated, width: "7.5rem", end: true, wide: true, value: ({ updated_at }) => new Date(updated_at / 1_000).toISOString(), cell: ({ updated_at }) => <TimeAgo at={updated_at} /> },
];

function Members({ id, waves }: { id: string; waves: number }) {
  const search = route.useSearch();
  const navigate = route.useNavigate();
  const filter = (change: Partial<typeof search>) => void navigate({ search: (before) => ({ ...before, ...change }), replace: true, resetScroll: false });
  const wave = Number(search.wave) || undefined;
  const query = { limit: PAGE, ...(search.outcome && { outcome: search.outcome }), ...(wave && { wave }) };
  const members = api.useInfiniteQuery("get", "/api/v1/rollouts/{id}/devices", { params: { path: { id }, query } }, paging);
  return (
    <section aria-label={words.list} style={{ marginTop: 16 }}>
      <div className="filters">
        <Select
          aria-label={words.outcome} placeholder={words.anyOutcome} clearable clearButtonProps={{ "aria-label": text.ui.remove }} value={search.outcome ?? null}
          data={OUTCOMES.map((value) => ({ value, label: words.outcomes[value] }))}
          onChange={(outcome) => filter({ outcome: OUTCOMES.find((one) => one === outcome) })}
        />
        <Select
          aria-label={words.waves} placeholder={words.anyWave} clearable clearButtonProps={{ "aria-label": text.ui.remove }} value={search.wave ?? null}
          data={Array.from({ length: waves }, (_, index) => ({ value: String(index + 1), label: words.wave(index + 1) }))}
          onChange={(value) => filter({ wave: value ?? undefined })}
        />
      </div>
      <ResourceTable
        label={words.members} pages={members} columns={columns} rowId={({ device }) => device} height="480px"
        read={(page) => http.GET("/api/v1/rollouts/{id}/devices", { params: { path: { id }, query: { ...query, ...page } } })}
        empty={<div className="section"><Empty title={words.noDeviceMatches} /></div>}
      />
    </section>
  );
}
