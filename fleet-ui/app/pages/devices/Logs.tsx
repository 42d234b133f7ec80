/**
 * The agent's log. Each reading is a command that the device answers; while it is followed, the next is given when one is answered,
 * which the device does as soon as there is a line, and stands in the history in the place of the one before.
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
import { follow, type Answer, type Position } from "./follow";
import { append, readTail, TAIL_WAIT_S, type LogLine } from "./logLines";
import { LEVELS } from "./routes";

const words = text.devices;
const route = getRouteApi("/shell/devices/$device");
const LINES = 500;
const KEPT = 5_000;
/** A page that nobody looks at any more gives its place on the device back. */
const LONGEST_MS = 60 * 60_000;
const WAIT_S = 20;
/** How long a device that is being followed may be away: longer than a restart of its agent takes. */
const AWAY_S = 60;
/** So far from its end, in px, a log counts as scrolled to it. */
const NEAR_PX = 40;

type Read = Pick<Schemas["CreateCommand"], "after" | "boot_id" | "wait_s" | "follows"> & Pick<Schemas["CreateCommand"], "offline">;

/** Why the device brought nothing, in its words. */
class NoAnswer extends Error {}

async function tail(device: string, level: (typeof LEVELS)[number], read: Read, wait: number, signal?: AbortSignal): Promise<Answer> {
  const path = { device };
  const { data: given } = await http.POST("/api/v1/devices/{device}/commands", { params: { path }, body: { kind: "tail-logs", lines: LINES, level, ttl_s: AWAY_S, ...read } });
  for (;;) {
    const { data: done } = await http.GET("/api/v1/devices/{device}/commands/{command}", { params: { path: { ...path, command: given!.id }, query: { wait } }, ...(signal && { signal }) });
    if (done?.state === "ok") return { command: done.id, tail: readTail(done.result?.json) };
    // A follower waits on; the command ends by itself.
    if (!signal || (done?.state !== "queued" && done?.state !== "delivered")) throw new NoAnswer(done?.message || words.commandStates[done?.state ?? "expired"]);
  }
}

export function Logs({ device }: { device: Schemas["DeviceDetail"] }) {
  const { level = "info" } = route.useSearch();
  const navigate = route.useNavigate();
  const [lines, setLines] = useState<readonly LogLine[]>();
  const [following, setFollowing] = useState(false);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>();
  /** Why the device brought nothing. */
  const [said, setSaid] = useState("");
  /** What a follower should know of the lines. */
  const [note, setNote] = useState("");
  const end = useRef<HTMLPreElement>(null);
  const atEnd = useRef(true);
  const offline = device.state !== "online";
  const { id } = device;

  const clear = () => {
    setError(undefined);
    setSaid("");
    setNote("");
  };
  const refused = (failure: unknown) => (failure instanceof NoAnswer ? setSaid(failure.message) : setError(failure));
  const read = async () => {
    setBusy(true);
    clear();
    try {
      const { tail: found } = await tail(id, level, { offline: "fail" }, WAIT_S);
      setLines((before) => append(before ?? [], found.lines, KEPT));
    } catch (failure) {
      refused(failure);
    } finally {
      setBusy(false);
    }
  };
  useEffect(() => {
    if (!following) return;
    clear();
    const stop = new AbortController();
    const timer = setTimeout(() => setFollowing(false), LONGEST_MS);
    const ask = (from: Position | undefined) =>
      tail(id, level, from ? { after: from.after, boot_id: from.bootId, follows: from.follows, wait_s: TAIL_WAIT_S, offline: "queue" } : { after: 0, wait_s: TAIL_WAIT_S, offline: "fail" }, TAIL_WAIT_S + WAIT_S, stop.signal);
    follow(
      ask,
      ({ lines: fresh, missed, goesOn, restarted }) => {
        setLines((before = []) => (goesOn ? [...before, ...fresh].slice(-KEPT) : append(before, fresh, KEPT)));
        if (restarted) setNote(words.restarted);
        else if (missed > 0) setNote(words.missed(missed));
      },
      stop.signal,
    ).catch((failure: unknown) => {
      if (stop.signal.aborted) return;
      refused(failure);
      setFollowing(false);
    });
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [following, id, level]);
  useEffect(() => {
    if (end.current && atEnd.current) end.current.scrollTop = end.current.scrollHeight;
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
        <Button size="xs" variant="default" disabled={offline || following} loading={busy} onClick={() => void read()}>{words.readNow}</Button>
        <Button
          size="xs" variant="default" disabled={offline && !following} leftSection={following ? <IconPlayerStop size={14} /> : <IconPlayerPlay size={14} />}
          onClick={() => setFollowing(!following)}
        >
          {following ? words.stopFollowing : words.follow}
        </Button>
        <Text size="xs" className="dim" role="status">{[offline ? words.logsOffline : following ? words.following : "", note].filter(Boolean).join(" ")}</Text>
      </div>
      {error !== undefined && <ErrorPanel error={error} retry={read} />}
      {said && <Text size="sm" mb="sm" role="alert"><StateBadge tone="bad">{words.says}</StateBadge> <bdi>{said}</bdi></Text>}
      {!lines ? <Empty title={words.noLogs} lead={words.noLogsLead} command={`aidos device logs ${device.id}`} /> : (
        <pre
          ref={end} className="logs" tabIndex={0} aria-label={words.tabs.logs}
          onScroll={({ currentTarget: { scrollHeight, scrollTop, clientHeight } }) => (atEnd.current = scrollHeight - scrollTop - clientHeight < NEAR_PX)}
        >
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
