/** Pause, resume, promote, abort, undo: what fits the phase, with a reason where it cannot be taken back. */
import { Button, Checkbox, Menu } from "@mantine/core";
import { IconChevronDown } from "@tabler/icons-react";
import { useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { http, type Schemas } from "~/api/client";
import { text } from "~/text";
import { Confirm } from "~/ui/Confirm";
import { failed, told } from "~/ui/toast";

type Rollout = Schemas["RolloutView"];
const words = text.rollouts;

export function Steer({ rollout }: { rollout: Rollout }) {
  const queries = useQueryClient();
  const navigate = useNavigate();
  const [asking, setAsking] = useState<"abort" | "undo" | "next" | "all">();
  const [revert, setRevert] = useState(rollout.plan.auto_revert);
  const params = { params: { path: { id: rollout.id } } } as const;
  const fresh = () => queries.invalidateQueries({ predicate: ({ queryKey }) => String(queryKey[1]).startsWith("/api/v1/rollouts") });

  const act = async (request: () => Promise<{ data?: Rollout | undefined }>, said: string, undo?: () => void) => {
    try {
      const { data } = await request();
      await fresh();
      told(said, { to: `/rollouts/${data?.id ?? rollout.id}`, ...(undo && { undo }) });
      if (data && data.id !== rollout.id) void navigate({ to: "/rollouts/$rollout", params: { rollout: data.id } });
    } catch (error) {
      failed(error);
    }
  };
  const resume = () => act(() => http.POST("/api/v1/rollouts/{id}/resume", { ...params, body: { reason: "" } }), words.acted.resume);
  const pause = () => act(() => http.POST("/api/v1/rollouts/{id}/pause", { ...params, body: { reason: "" } }), words.acted.pause, () => void resume());
  const promote = (all: boolean, reason: string) => act(() => http.POST("/api/v1/rollouts/{id}/promote", { ...params, body: { all, reason } }), words.acted.promote);
  const open = rollout.phase === "running" || rollout.phase === "paused";

  return (
    <>
      {rollout.phase === "running" && <Button variant="default" onClick={() => void pause()}>{words.pause}</Button>}
      {rollout.phase === "paused" && <Button onClick={() => void resume()}>{words.resume}</Button>}
      {open && (
        <Menu position="bottom-end">
          <Menu.Target><Button variant="default" rightSection={<IconChevronDown size={14} />}>{words.promote}</Button></Menu.Target>
          <Menu.Dropdown>
            <Menu.Item onClick={() => setAsking("next")}>{words.promoteNext}</Menu.Item>
            <Menu.Item onClick={() => setAsking("all")}>{words.promoteAll}</Menu.Item>
          </Menu.Dropdown>
        </Menu>
      )}
      {open && <Button variant="default" color="red" onClick={() => setAsking("abort")}>{words.abort}</Button>}
      {(open || rollout.phase === "finished") && <Button variant="default" onClick={() => setAsking("undo")}>{words.undo}</Button>}
      {asking === "abort" && (
        <Confirm
          title={words.abortTitle} lead={words.abortLead} action={words.abortDo} close={() => setAsking(undefined)}
          confirmed={(reason) => act(() => http.POST("/api/v1/rollouts/{id}/abort", { ...params, body: { reason, revert } }), words.acted.abort)}
        >
          <Checkbox label={words.abortRevert} checked={revert} onChange={(event) => setRevert(event.currentTarget.checked)} />
        </Confirm>
      )}
      {(asking === "next" || asking === "all") && (
        <Confirm
          title={words.promoteTitle} lead={words.promoteLead[asking]} action={words.promoteDo} close={() => setAsking(undefined)}
          confirmed={(reason) => promote(asking === "all", reason)}
        />
      )}
      {asking === "undo" && (
        <Confirm
          title={words.undoTitle} lead={words.undoLead} action={words.undoDo} close={() => setAsking(undefined)}
          confirmed={(reason) => act(() => http.POST("/api/v1/rollouts/{id}/undo", { ...params, body: { reason, to: null } }), words.acted.undo)}
        />
      )}
    </>
  );
}
