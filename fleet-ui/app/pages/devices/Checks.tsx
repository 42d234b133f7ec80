/** What a device found when it looked at itself, as a list for people; and the dialog that has it look. */
import { Modal, Skeleton, Stack, Text } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { http } from "~/api/client";
import { text } from "~/text";
import { ErrorPanel } from "~/ui/ErrorPanel";
import { StateBadge } from "~/ui/StateBadge";
import { LEVEL_TONES, readChecks, type Check } from "./checks";

const words = text.devices;
/** Reading all model files may take longer: the answer is then among the commands. */
const WAIT_S = 55;

export function Checks({ checks }: { checks: readonly Check[] }) {
  return (
    <ul className="checks" aria-label={words.checks}>
      {checks.map(({ check, level, detail, advice }, index) => (
        <li key={index}>
          <div className="command-head">
            <strong><bdi>{check}</bdi></strong>
            <StateBadge tone={LEVEL_TONES[level]}>{words.checkLevels[level]}</StateBadge>
          </div>
          <div className="wrap"><bdi>{detail}</bdi></div>
          {advice && <div className="dim wrap">→ <bdi>{advice}</bdi></div>}
        </li>
      ))}
    </ul>
  );
}

export function Probe({ id, name, close }: { id: string; name: string; close: () => void }) {
  const queries = useQueryClient();
  const [checks, setChecks] = useState<readonly Check[]>();
  /** Why there are none. */
  const [said, setSaid] = useState("");
  const [error, setError] = useState<unknown>();
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const gone = new AbortController();
    const probe = async () => {
      const path = { device: id };
      const { data: given } = await http.POST("/api/v1/devices/{device}/commands", { params: { path }, body: { kind: "probe", offline: "fail", ttl_s: 300 } });
      void queries.invalidateQueries({ predicate: ({ queryKey }) => queryKey[1] === "/api/v1/devices/{device}/commands" });
      const { data: done } = await http.GET("/api/v1/devices/{device}/commands/{command}", { params: { path: { ...path, command: given!.id }, query: { wait: WAIT_S } }, signal: gone.signal });
      const found = readChecks(done?.result?.json);
      if (found) setChecks(found);
      else setSaid(done?.message || words.stillProbing);
    };
    probe().catch((failure: unknown) => gone.signal.aborted || setError(failure));
    return () => gone.abort();
  }, [id, turn, queries]);
  const again = () => {
    setError(undefined);
    setTurn((before) => before + 1);
  };
  return (
    <Modal opened onClose={close} size="lg" title={<bdi className="cut">{words.probeTitle(name)}</bdi>} closeButtonProps={{ "aria-label": text.ui.close }}>
      {error !== undefined ? <ErrorPanel error={error} retry={again} /> : checks ? <Checks checks={checks} /> : said ? <Text size="sm" role="status"><bdi>{said}</bdi></Text> : (
        <Stack role="status"><Text size="sm" className="dim">{words.probing}</Text><Skeleton height={160} /></Stack>
      )}
    </Modal>
  );
}
