/** The commands that a device was given, newest first, with what came back; logs are read here. */
import { Button, Skeleton } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { api, http, type Schemas } from "~/api/client";
import { session } from "~/api/session";
import { text } from "~/text";
import { ErrorPanel } from "~/ui/ErrorPanel";
import { Empty, Section } from "~/ui/Section";
import { StateBadge, type Tone } from "~/ui/StateBadge";
import { TimeAgo } from "~/ui/TimeAgo";
import { failed } from "~/ui/toast";
import { readChecks } from "./checks";
import { Checks } from "./Checks";

const words = text.devices;
type Command = Schemas["CommandView"];

const TONES: Record<Command["state"], Tone> = { queued: "quiet", delivered: "busy", ok: "good", failed: "bad", expired: "warn", refused: "bad", cancelled: "quiet" };

export function Commands({ id }: { id: string }) {
  const queries = useQueryClient();
  const [open, setOpen] = useState<string>();
  const commands = api.useQuery("get", "/api/v1/devices/{device}/commands", { params: { path: { device: id }, query: { limit: 50 } } });
  const takeBack = async (command: string) => {
    try {
      await http.DELETE("/api/v1/devices/{device}/commands/{command}", { params: { path: { device: id, command } } });
      await queries.invalidateQueries({ predicate: ({ queryKey }) => queryKey[1] === "/api/v1/devices/{device}/commands" });
    } catch (error) {
      failed(error);
    }
  };
  if (commands.error && !commands.data) return <ErrorPanel error={commands.error} retry={commands.refetch} />;
  const items = commands.data?.items;
  return (
    <Section title={words.tabs.commands}>
      {!items ? <Skeleton height={200} /> : items.length === 0 ? <Empty title={words.noCommands} command={`aidos device self-test ${id}`} /> : (
        <div className="stack" style={{ gap: 0 }}>
          {items.map((command) => (
            <div key={command.id} className="command-row">
              <div className="command-head">
                <span><strong>{command.kind}</strong> <span className="dim">{command.arguments.component ?? command.arguments.model}</span></span>
                <span className="dim"><TimeAgo at={command.created_at} /></span>
                <StateBadge tone={TONES[command.state]}>{words.commandStates[command.state]}</StateBadge>
                {command.state === "queued" && session.may("operator") && <Button size="compact-xs" variant="default" onClick={() => void takeBack(command.id)}>{words.takeBack}</Button>}
                {command.result && (
                  <Button size="compact-xs" variant="default" aria-expanded={open === command.id} onClick={() => setOpen(open === command.id ? undefined : command.id)}>{words.result}</Button>
                )}
              </div>
              {command.message && <div className="dim wrap"><bdi>{command.message}</bdi></div>}
              {open === command.id && <Result device={id} command={command.id} kind={command.kind} />}
            </div>
          ))}
        </div>
      )}
    </Section>
  );
}

function Result({ device, command, kind }: { device: string; command: string; kind: Command["kind"] }) {
  const answer = api.useQuery("get", "/api/v1/devices/{device}/commands/{command}", { params: { path: { device, command } } });
  if (answer.error) return <ErrorPanel error={answer.error} />;
  const result = answer.data?.result;
  if (!result) return <Skeleton height={80} />;
  const checks = kind === "probe" ? readChecks(result.json) : undefined;
  if (checks) return <Checks checks={checks} />;
  const shown = result.json ? JSON.stringify(result.json, undefined, 2) : (result.text ?? `${result.content_type}, ${result.bytes} B`);
  return <pre className="logs" tabIndex={0} aria-label={words.result}>{shown}</pre>;
}
