import { expect, it } from "vitest";
import { changesOf } from "./edits";

const entry = (id: string, actor: string, edits: unknown, action = "device.edit") => ({ id, at: 1, actor, action, target: "dev_1", detail: { edits } });

it("says who changed which field", () => {
  const changes = changesOf([
    entry("b", "site:alice", [{ op: "set_label", key: "site", value: "lab" }, { op: "remove_note", key: "door" }]),
    entry("a", "key:key_1", [{ op: "set_config", key: "telemetry.interval_s", value: 5 }, { op: "set_model", name: "digits", model: { version: 3 } }]),
  ]);
  expect(changes.map(({ path, value, site }) => [path, value, site])).toEqual([
    ["labels/site", "lab", true], ["notes/door", undefined, true], ["config/telemetry.interval_s", "5", false], ["models/digits", "3", false],
  ]);
});

it("leaves out what it does not know", () => {
  expect(changesOf([entry("a", "system", [null, { op: "paint" }, { op: "set_label" }, 7]), entry("b", "x", "no"), entry("c", "x", [{ op: "set_label", key: "a", value: "b" }], "device.revoke")])).toEqual([]);
});
