import { expect, it } from "vitest";
import { statusLines, twinRows } from "./twinRows";

const model = { version: 2, digest: "sha256:1", size: 1 };
const change = { id: "1", at: 5, actor: "site:alice", site: true, path: "labels/site", value: "lab" };

it("puts what is wanted beside what is reported, differences first", () => {
  const rows = twinRows(
    {
      intent: { epoch: 1, labels: { site: "lab" }, notes: {}, models: { digits: model, cats: model }, config: { "telemetry.interval_s": 5 } },
      status: { "models/digits": { active_version: 1 }, "models/cats": { active_version: 2 } },
      differences: [{ path: "models/digits", desired: "2", reported: "1", reason: "downloading" }],
    },
    [change, { ...change, id: "0", at: 1, actor: "key:1" }],
  );
  expect(rows.map(({ path, wanted, reported, reason }) => [path, wanted, reported, reason])).toEqual([
    ["models/digits", "2", "1", "downloading"],
    ["config/telemetry.interval_s", "5", "5", undefined],
    ["labels/site", "lab", "lab", undefined],
    ["models/cats", "2", "2", undefined],
  ]);
  expect(rows[2]?.last?.actor).toBe("site:alice");
});

it("says nothing of what the device has not applied", () => {
  const rows = twinRows({ intent: { epoch: 1, labels: { a: "b" }, notes: {}, models: {}, config: {} }, status: {}, differences: [{ path: "intent", reason: "not applied" }] }, []);
  expect(rows.map(({ path, reported }) => [path, reported])).toEqual([["intent", undefined], ["labels/a", undefined]]);
});

it("reads a status line by line", () => {
  expect(statusLines({ since_us: 1_000_000, list: [1], text: "x" })).toEqual([["since_us", "1970-01-01T00:00:01.000Z"], ["list", "[1]"], ["text", "x"]]);
  expect(statusLines("0.1.0")).toEqual([["", "0.1.0"]]);
});
