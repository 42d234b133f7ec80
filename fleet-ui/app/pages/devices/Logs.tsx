/**
 * The agent's log. Each reading is a command that the device answers; while it is followed, one is given every ten seconds, for
 * five minutes at most, since each stands in the device's history of commands.
 */
import { Button, Group, Select, Text } from "@mantine/core";
import { IconPlayerPlay, IconPlayerStop } from "@tabler/icons-react";
import { getRouteApi } from "@tanstack/react-router";
import { useEffect, useRef, useState } from "react";
import { http, type Schemas } from "~/api/client";
import { session } from "~/api/session";
import { text } from "~/text";
import { ErrorPanel } from "~/ui/ErrorPanel";
import { dateTime, timeOfDay } from "~/ui/format";
import { Empty, Section } from "~/ui/Section";
import { StateBadge } from "~/ui/StateBadge";
import { append, readLines, type LogLine } from "./logLines";
import { LEVELS } from "./routes";

const words = text.devices;
const route = getRouteApi("/shell/devices/$device");
const LINES = 500;
const KEPT = 5_000;
const EVERY_MS = 10_000;
const LONGEST_MS = 5 * 60_000;
const WAIT_S = 20;

export function Logs({ device }: { device: Schemas["DeviceDetail"] }) {
  const { level = "info" } = route.useSearch();
  const navigate = route.useNavigate();
  const [lines, setLines] = useState<readonly LogLine[]>();
  const [since, setSince] = useState<number>();
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>();
  /** Why the device brought nothing. */
  const [said, setSaid] = useState("");
  const end = useRef<HTMLPreElement>(null);
  const offline = device.state !== "online";
  const path = { device: device.id };

  const read = async () => {
    setBusy(true);
    setError(undefined);
    setSaid("");
    try {
      const { data: given } = await http.POST("/api/v1/devices/{device}/commands", { params: { path }, body: { kind: "tail-logs", lines: LINES, level, offline: "fail", ttl_s: 60 } });
      const { data: done } = await http.GET("/api/v1/devices/{device}/commands/{command}", { params: { path: { ...path, command: given!.id }, query: { wait: WAIT_S } } });
      if (done?.state === "ok") setLines((before) => append(before ?? [], readLines(done.result?.json), KEPT));
      else {
        setSaid(done?.message || words.commandStates[done?.state ?? "expired"]);
        setSince(undefined);
      }
    } catch (failure) {
      setError(failure);
      setSince(undefined);
    } finally {
      setBusy(false);
    }
  };
  const latest = useRef(read);
  latest.current = read;
  useEffect(() => {
    if (since === undefined) return;
    void latest.current();
    const timer = setInterval(() => (Date.now() - since > LONGEST_MS ? setSince(undefined) : void latest.current()), EVERY_MS);
    return () => clearInterval(timer);
  }, [since, level]);
  useEffect(() => {
    if (end.current) end.current.scrollTop = end.current.scrollHeight;
  }, [lines]);

  if (!session.may("operator")) return <Section title={words.tabs.logs}><Empty title={words.logsRole} /></Section>;
  return (
    <Section title={words.tabs.logs}>
      <div className="range">
        <Select
          size="xs" w={120} aria-label={words.level} value={level} data={[...LEVELS]} allowDeselect={false}
          onChange={(value) => {
            setLines(undefined);
            void navigate({ search: (before) => ({ ...before, level: LEVELS.find((one) => one === value) }), replace: true, resetScroll: false });
          }}
        />
        <Button size="xs" variant="default" disabled={offline || since !== undefined} loading={busy && since === undefined} onClick={() => void read()}>{words.readNow}</Button>
        <Button
          size="xs" variant="default" disabled={offline} leftSection={since === undefined ? <IconPlayerPlay size={14} /> : <IconPlayerStop size={14} />}
          onClick={() => setSince(since === undefined ? Date.now() : undefined)}
        >
          {since === undefined ? words.follow : words.stopFollowing}
        </Button>
        <Text size="xs" className="dim" role="status">{offline ? words.logsOffline : since !== undefined ? words.following : ""}</Text>
      </div>
      {error !== undefined && <ErrorPanel error={error} retry={read} />}
      {said && <Text size="sm" mb="sm" role="alert"><StateBadge tone="bad">{words.says}</StateBadge> <bdi>{said}</bdi></Text>}
      {!lines ? <Empty title={words.noLogs} lead={words.noLogsLead} command={`aidos device logs ${device.id}`} /> : (
        <pre ref={end} className="logs" tabIndex={0} aria-label={words.tabs.logs}>
          {lines.map((line, index) => (
            <div key={index} className={`log-${line.level}`}>
              <time className="dim" title={dateTime(line.at / 1_000)}>{timeOfDay(line.at / 1_000)}</time> <strong>{line.level}</strong> <span className="dim"><bdi>{line.target}</bdi></span> <bdi>{line.text}</bdi>
            </div>
          ))}
        </pre>
      )}
      {lines && <Group justify="end" mt="xs"><Text size="xs" className="dim nums">{text.ui.rows(lines.length, false)}</Text></Group>}
    </Section>
  );
}
