/** What a person can have a device do, and how it is told to go. */
import { Button, Menu } from "@mantine/core";
import { IconChevronDown } from "@tabler/icons-react";
import { useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { http, type Schemas } from "~/api/client";
import { text } from "~/text";
import { Confirm } from "~/ui/Confirm";
import { failed, told } from "~/ui/toast";
import { Probe } from "./Checks";
import { RenameForm } from "./RenameForm";

const words = text.devices;

export function Actions({ device }: { device: Schemas["DeviceDetail"] }) {
  const queries = useQueryClient();
  const navigate = useNavigate();
  const [asking, setAsking] = useState<"probe" | "revoke" | "delete">();
  const params = { path: { device: device.id } } as const;

  const give = async (command: Omit<Schemas["CreateCommand"], "offline" | "ttl_s"> & Partial<Schemas["CreateCommand"]>, undo?: () => void) => {
    try {
      await http.POST("/api/v1/devices/{device}/commands", { params, body: command as Schemas["CreateCommand"] });
      await queries.invalidateQueries({ predicate: ({ queryKey }) => queryKey[1] === "/api/v1/devices/{device}/commands" });
      told(words.given(command.kind), { to: `/devices/${device.id}?tab=commands`, ...(undo && { undo }) });
    } catch (error) {
      failed(error);
    }
  };
  const gone = async (said: string, request: () => Promise<unknown>, away?: boolean) => {
    try {
      await request();
      told(said);
      if (away) await navigate({ to: "/devices" });
      await queries.invalidateQueries();
    } catch (error) {
      failed(error);
    }
  };
  const rename = async (name: string) => {
    await http.PATCH("/api/v1/devices/{device}", { params, body: { name } });
    await queries.invalidateQueries({ predicate: ({ queryKey }) => String(queryKey[1]).startsWith("/api/v1/devices") });
  };

  return (
    <>
      <Menu position="bottom-end" width={240} withinPortal={false} withInitialFocusPlaceholder={false}>
        <Menu.Target><Button variant="default" rightSection={<IconChevronDown size={14} />}>{words.actions}</Button></Menu.Target>
        <Menu.Dropdown>
          {device.state !== "revoked" && (
            <>
              <Menu.Item onClick={() => setAsking("probe")}>{words.probe}</Menu.Item>
              <Menu.Item onClick={() => void give({ kind: "self-test" })}>{words.selfTest}</Menu.Item>
              {Object.keys(device.models).map((model) => (
                <Menu.Item key={model} onClick={() => void give({ kind: "self-test", model })}>{words.selfTestOf(model)}</Menu.Item>
              ))}
              <Menu.Item onClick={() => void navigate({ to: "/devices/$device", params: { device: device.id }, search: { tab: "logs" } })}>{words.logs}</Menu.Item>
              <Menu.Divider />
              {device.drained_at == null ? (
                <Menu.Item onClick={() => void give({ kind: "drain" }, () => void give({ kind: "undrain" }))}>{words.drain}</Menu.Item>
              ) : (
                <Menu.Item onClick={() => void give({ kind: "undrain" })}>{words.undrain}</Menu.Item>
              )}
              <Menu.Divider />
              {Object.keys(device.components).map((component) => (
                <Menu.Item key={component} onClick={() => void give({ kind: "restart", component })}>{words.restartWhat(component)}</Menu.Item>
              ))}
              <Menu.Divider />
              <Menu.Item onClick={() => setAsking("revoke")} className="danger">{words.revoke}</Menu.Item>
            </>
          )}
          <Menu.Item onClick={() => setAsking("delete")} className="danger">{words.delete}</Menu.Item>
        </Menu.Dropdown>
      </Menu>
      <Rename name={device.name} renamed={rename} />
      {asking === "probe" && <Probe id={device.id} name={device.name} close={() => setAsking(undefined)} />}
      {asking === "revoke" && (
        <Confirm
          title={words.revokeTitle(device.name)} lead={words.revokeLead} action={words.revokeDo} word={device.name.trim()} close={() => setAsking(undefined)}
          confirmed={() => gone(words.revoked, () => http.POST("/api/v1/devices/{device}/revoke", { params }))}
        />
      )}
      {asking === "delete" && (
        <Confirm
          title={words.deleteTitle(device.name)} lead={words.deleteLead} action={words.deleteDo} word={device.name.trim()} close={() => setAsking(undefined)}
          confirmed={() => gone(words.deleted, () => http.DELETE("/api/v1/devices/{device}", { params }), true)}
        />
      )}
    </>
  );
}

function Rename({ name, renamed }: { name: string; renamed: (name: string) => Promise<void> }) {
  const [asking, setAsking] = useState(false);
  return (
    <>
      <Button variant="default" onClick={() => setAsking(true)}>{words.rename}</Button>
      {asking && <RenameForm name={name} close={() => setAsking(false)} renamed={renamed} />}
    </>
  );
}
