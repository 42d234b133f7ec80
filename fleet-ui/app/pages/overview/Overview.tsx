/** How the fleet is at a glance: who is connected, what rolls out, what needs a look, what happened last. */
import { Skeleton, Text } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";
import { Link } from "@tanstack/react-router";
import { api } from "~/api/client";
import { session } from "~/api/session";
import { Events } from "~/pages/activity/Events";
import { outcomeParts, WaveBar } from "~/pages/rollouts/WaveBar";
import { text } from "~/text";
import { ButtonLink } from "~/ui/ButtonLink";
import { ErrorPanel } from "~/ui/ErrorPanel";
import { integer } from "~/ui/format";
import { Name } from "~/ui/Name";
import { Empty, PageHead, Section } from "~/ui/Section";
import { StateBadge } from "~/ui/StateBadge";
import { TimeAgo } from "~/ui/TimeAgo";

const words = text.overview;

export function Overview() {
  const overview = api.useQuery("get", "/api/v1/overview", {});
  const rollouts = api.useQuery("get", "/api/v1/rollouts", { params: { query: { phase: "running,paused", limit: 4 } } });
  const offline = api.useQuery("get", "/api/v1/devices", { params: { query: { state: "offline", sort: "last_seen", limit: 6 } } });
  const activity = api.useQuery("get", "/api/v1/activity", { params: { query: { limit: 8 } } });
  const view = overview.data;

  if (overview.error && !view) return <ErrorPanel error={overview.error} retry={overview.refetch} />;
  const total = view ? view.devices.online + view.devices.offline : 0;
  const underWay = rollouts.data?.items ?? [];
  const add = session.may("operator") && (
    <ButtonLink to="/devices/add" leftSection={<IconPlus size={16} />}>{text.devices.add}</ButtonLink>
  );

  return (
    <>
      <PageHead title={words.title}>{add}</PageHead>
      {view && total === 0 && view.devices.revoked === 0 ? (
        <div className="section"><Empty title={words.first} lead={words.firstLead} command="aidos token create --uses 50 --ttl 1h --label site=lab">{add}</Empty></div>
      ) : (
        <div className="grid grid-stretch">
          <div className="span-5">
            <Section title={words.fleet} aside={<Link to="/devices">{words.all}</Link>}>
              {view ? (
                <>
                  <Text component="p" className="big" m={0}>
                    {integer(view.devices.online)} <Text span size="md" className="dim">{words.online} {words.of(total)}</Text>
                  </Text>
                  <div className="bar" style={{ marginBlock: 16 }} role="img" aria-label={`${view.devices.online} ${words.online}, ${view.devices.offline} ${words.offline}`}>
                    <span className="tag-good" style={{ flexGrow: view.devices.online, flexBasis: 0, minWidth: view.devices.online ? undefined : 0 }} />
                    {view.devices.offline > 0 && <span className="tag-warn" style={{ flexGrow: view.devices.offline, flexBasis: 0 }} />}
                  </div>
                  <div className="legend">
                    <span><i className="swatch tag-good" />{integer(view.devices.online)} {words.online}</span>
                    <span><i className="swatch tag-warn" />{integer(view.devices.offline)} {words.offline}</span>
                    {view.devices.revoked > 0 && <span><i className="swatch tag-quiet" />{integer(view.devices.revoked)} {words.revoked}</span>}
                  </div>
                </>
              ) : <Skeleton height={110} />}
            </Section>
          </div>
          <div className="span-7">
            <Section title={words.rollingOut} aside={<Link to="/rollouts">{words.all}</Link>}>
              {rollouts.isPending ? <Skeleton height={110} /> : underWay.length === 0 ? (
                <Text size="sm" className="dim">{words.noRollouts} {session.may("operator") && <Link to="/models">{words.startOne}</Link>}</Text>
              ) : (
                <div className="stack">
                  {underWay.map((rollout) => (
                    <Link key={rollout.id} to="/rollouts/$rollout" params={{ rollout: rollout.id }} style={{ color: "inherit", textDecoration: "none" }}>
                      <div style={{ display: "flex", justifyContent: "space-between", gap: 12, marginBottom: 6, minWidth: 0 }}>
                        <span className="cut"><strong>{rollout.subject}@{rollout.version}</strong> <span className="dim">{rollout.selector}</span></span>
                        <StateBadge tone={rollout.phase === "paused" ? "warn" : "busy"}>{`${text.rollouts.phases[rollout.phase]}, ${text.rollouts.waveOf(rollout.wave, rollout.waves.length)}`}</StateBadge>
                      </div>
                      <WaveBar parts={outcomeParts(rollout.waves)} />
                    </Link>
                  ))}
                </div>
              )}
            </Section>
          </div>
          <div className="span-5 stack">
            <Section title={words.attention}>
              {!view ? <Skeleton height={60} /> : (
                <div className="stack" style={{ gap: 8 }}>
                  {view.rollouts.paused > 0 && <Link to="/rollouts" search={{ phase: "paused" }}><StateBadge tone="warn">{words.waiting(view.rollouts.paused)}</StateBadge></Link>}
                  {view.certificates_expiring > 0 && <StateBadge tone="warn">{words.expiring(view.certificates_expiring)}</StateBadge>}
                  {view.never_seen > 0 && <StateBadge tone="quiet">{words.neverSeen(view.never_seen)}</StateBadge>}
                  {view.rollouts.paused + view.certificates_expiring + view.never_seen + view.devices.offline === 0 && <StateBadge tone="good">{words.allWell}</StateBadge>}
                  {(offline.data?.items.length ?? 0) > 0 && (
                    <div className="rows">
                      {offline.data!.items.map((device) => (
                        <Link key={device.id} to="/devices/$device" params={{ device: device.id }}>
                          <Name>{device.name}</Name>
                          <span className="dim nowrap">{words.lastSeen} <TimeAgo at={device.last_seen_at} /></span>
                        </Link>
                      ))}
                    </div>
                  )}
                </div>
              )}
            </Section>
            <Section title={words.agents}>
              {!view ? <Skeleton height={40} /> : (
                <div className="rows">
                  {view.agent_versions.map(({ version, devices }) => (
                    <Link key={version} to="/devices"><span className="mono">{version}</span><span className="nums dim">{integer(devices)}</span></Link>
                  ))}
                </div>
              )}
            </Section>
          </div>
          <div className="span-7">
            <Section title={words.latest} aside={<Link to="/activity">{words.all}</Link>}>
              {activity.data ? <Events items={activity.data.items} /> : <Skeleton height={220} />}
            </Section>
          </div>
        </div>
      )}
    </>
  );
}
