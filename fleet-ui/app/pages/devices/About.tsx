/** What a device is made of, how it is connected, by whose word it installs, and what of its telemetry waits or was lost. */
import { Text } from "@mantine/core";
import type { Schemas } from "~/api/client";
import { text } from "~/text";
import { bytes, integer, unitOf } from "~/ui/format";
import { Name } from "~/ui/Name";
import { KeyValue, Section } from "~/ui/Section";
import { StateBadge, type Tone } from "~/ui/StateBadge";
import { TimeAgo } from "~/ui/TimeAgo";
import { LINK_METRICS, linkReadings } from "./readings";
import { useTelemetry } from "./useTelemetry";

const words = text.devices;
type Detail = Schemas["DeviceDetail"];

const COMPONENT_TONES: Record<Schemas["ComponentState"], Tone> = { starting: "busy", running: "good", failed: "bad", stopped: "quiet" };

export function About({ device }: { device: Detail }) {
  const { link, trust } = device;
  const telemetry = useTelemetry(device.id);
  const now = linkReadings(telemetry.data?.metrics ?? [], device.state === "online");
  const lost = telemetry.data?.lost_samples ?? 0;
  const refused = telemetry.data?.refused_samples ?? 0;
  return (
    <div className="about">
      <Section title={words.facts} aside={<StateBadge tone={device.in_sync ? "good" : "busy"}>{device.in_sync ? words.inSync : words.notInSync}</StateBadge>}>
        <KeyValue
          items={[
            [words.lastSeen, device.state === "online" ? text.ui.now : <TimeAgo key="s" at={device.last_seen_at} />],
            [words.link, link ? link.transport?.toUpperCase() : device.transport?.toUpperCase()],
            ...(link ? [[words.linkSince, <TimeAgo key="l" at={link.since_us} />] as const, [words.failovers, integer(link.failovers ?? 0)] as const] : []),
            ...(now.roundTrip !== undefined ? [[words.roundTrip, unitOf(LINK_METRICS.roundTrip)(now.roundTrip)] as const] : []),
            ...(now.sent !== undefined && now.received !== undefined ? [[words.traffic, words.sentReceived(unitOf(LINK_METRICS.sent)(now.sent), unitOf(LINK_METRICS.received)(now.received))] as const] : []),
            [words.address, device.address],
            ...(device.drained_at == null ? [] : [[words.drainedSince, <TimeAgo key="d" at={device.drained_at} />] as const]),
            [words.agent, device.agent_version && <Name key="a" mono>{device.agent_version}</Name>],
            [words.certificate, <TimeAgo key="c" at={device.certificate_expires_at} />],
            [words.joined, <TimeAgo key="j" at={device.created_at} />],
            [words.id, <span key="i" className="mono id">{device.id}</span>],
            ...(trust ? [[words.trust, words.trustStates[trust.state ?? "unsigned"]] as const] : []),
            [words.readings, <TimeAgo key="r" at={telemetry.data?.last_at} />],
            [words.spool, lost > 0 ? <StateBadge key="t" tone="warn">{`${words.lost(lost)}, ${bytes(telemetry.data?.lost_bytes ?? 0)}`}</StateBadge> : words.noneLost],
            ...(now.samples !== undefined ? [[words.waits, now.samples > 0 ? words.waiting(now.samples, bytes(now.bytes ?? 0)) : words.noneWaits] as const] : []),
            ...(refused > 0 ? [[words.notKept, words.refused(refused)] as const] : []),
          ]}
        />
        {link?.note && <Text size="sm" mt="md" role="status" className="wrap"><StateBadge tone="warn">{words.says}</StateBadge> <bdi>{link.note}</bdi></Text>}
        {trust?.error && <Text size="sm" mt="md" role="status" className="wrap"><StateBadge tone="warn">{words.trust}</StateBadge> <bdi>{trust.error}</bdi></Text>}
      </Section>
    </div>
  );
}

/** What it is made of, and what runs of its agent. */
export function Machine({ device }: { device: Detail }) {
  const { inventory } = device;
  return (
    <div className="about stack">
      {inventory && <Section title={words.machine}><KeyValue items={machine(inventory)} /></Section>}
      <Section title={words.components}>
        <table className="plain">
          <thead><tr><th>{words.components}</th><th>{words.state}</th></tr></thead>
          <tbody>
            {Object.entries(device.components).map(([name, component]) => (
              <tr key={name}>
                <td>{name}</td>
                <td>
                  <StateBadge tone={COMPONENT_TONES[component.state ?? "starting"]}>{words.componentStates[component.state ?? "starting"]}</StateBadge>
                  {(component.restarts ?? 0) > 0 && <span className="dim nums"> {words.restarts(component.restarts ?? 0)}</span>}
                  {component.error && <div className="dim wrap"><bdi>{component.error}</bdi></div>}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </Section>
    </div>
  );
}

function machine(inventory: Schemas["Inventory"]): (readonly [string, string])[] {
  return [
    [words.os, `${inventory.os_version || inventory.os}, ${inventory.arch}`],
    [words.cpu, `${inventory.cpu || text.ui.nothing}, ${words.cores(inventory.cores)}`],
    [words.memory, bytes(inventory.memory_bytes)],
    [words.disk, bytes(inventory.disk_bytes)],
    [words.gpus, inventory.gpus.map((gpu) => gpu.name).join(", ") || text.ui.nothing],
    [words.engines, inventory.engines.join(", ")],
    [words.timeZone, inventory.time_zone],
  ];
}
