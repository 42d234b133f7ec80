/** The line of one token, as text and as a QR code, for as long as it can be used. Opens the device that joined. */
import { Alert, Button, Group, Stack, Text } from "@mantine/core";
import { Link, useNavigate } from "@tanstack/react-router";
import { useEffect, useState } from "react";
import { api, type Schemas } from "~/api/client";
import { text } from "~/text";
import { skew } from "~/ui/clock";
import { Command } from "~/ui/CopyButton";
import { duration } from "~/ui/format";
import { Name } from "~/ui/Name";
import { Section } from "~/ui/Section";
import { told } from "~/ui/toast";
import { QrCode } from "./QrCode";
import { LOOK_MS, useJoined } from "./useJoined";

const words = text.enrol;
type Token = Schemas["CreatedToken"];

const NEWEST = 100;
const LISTED = 8;

interface Props {
  readonly token: Token;
  readonly line: string;
  readonly again: () => void;
}

const left = (token: Token) => Math.max(0, Math.round((token.expires_at / 1_000 - Date.now() - skew()) / 1_000));

export function JoinLine({ token, line, again }: Props) {
  const navigate = useNavigate();
  const joined = useJoined(token);
  const [seconds, setSeconds] = useState(() => left(token));
  useEffect(() => {
    const timer = setInterval(() => setSeconds(left(token)), 1_000);
    return () => clearInterval(timer);
  }, [token]);
  const newest = joined[0];
  useEffect(() => {
    if (!newest) return;
    told(words.joined(newest.name.slice(0, 80)), { to: `/devices/${newest.device}` });
    if (token.uses === 1) void navigate({ to: "/devices/$device", params: { device: newest.device } });
  }, [newest?.device]);
  // It may have been deleted meanwhile.
  const tokens = api.useQuery("get", "/api/v1/tokens", { params: { query: { limit: NEWEST } } }, { refetchInterval: LOOK_MS, staleTime: 0 });
  const listed = tokens.data?.items.find(({ id }) => id === token.id);
  // An answer of before it was made does not have it either.
  const deleted = tokens.data !== undefined && !tokens.isFetching && !listed && !tokens.data.next_cursor;
  const used = Math.max(joined.length, listed?.used ?? 0);
  const end = used >= token.uses ? "used" : seconds === 0 ? "over" : deleted ? "deleted" : undefined;
  const ended = { used: [words.usedUp, words.usedUpLead], over: [words.over, words.overLead], deleted: [words.deleted, words.overLead] } as const;
  const loopback = /\/\/(127\.|localhost|\[::1\])/.test(token.command);
  return (
    <Section title={words.run} aside={<span className="dim nums nowrap left" role="timer">{end ? ended[end][0] : words.left(duration(seconds))}</span>}>
      {end ? (
        <Alert variant="default" role="alert">
          <Stack gap="sm" align="start">
            <span>{ended[end][1]} {end === "used" && <Link to="/devices" search={{ sort: "newest" }}>{words.newest}</Link>}</span>
            <Button size="xs" variant="default" onClick={again}>{words.again}</Button>
          </Stack>
        </Alert>
      ) : (
        <Stack>
          <Command>{line}</Command>
          {loopback && <Alert variant="default">{words.loopback}</Alert>}
          <Group align="center" gap="xl">
            <figure className="qr">
              <QrCode text={line} />
              <figcaption className="dim">{words.scan}</figcaption>
            </figure>
            <div className="stack">
              <Text role="status" className="waiting">{token.uses === 1 ? words.waiting : words.waitingFor(used, token.uses)}</Text>
              {joined.length > 0 && (
                <div className="rows">
                  {joined.slice(0, LISTED).map(({ device, name }) => <Link key={device} to="/devices/$device" params={{ device }}><Name>{name}</Name></Link>)}
                </div>
              )}
            </div>
          </Group>
        </Stack>
      )}
    </Section>
  );
}
