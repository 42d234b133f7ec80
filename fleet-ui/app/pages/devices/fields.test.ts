import { expect, it } from "vitest";
import { fieldsOf, rowsOf, settingsToFields, twice, valueOf } from "./fields";

it("reads settings back as they were", () => {
  const settings = { "log.level": "debug", "telemetry.interval_s": 5, list: [1], text: "5", quoted: '"x"', empty: "", no: null };
  const fields = settingsToFields(settings);
  expect(fields["log.level"]).toBe("debug");
  expect(fields.text).toBe('"5"');
  expect(Object.fromEntries(Object.entries(fields).map(([key, value]) => [key, valueOf(value)]))).toEqual(settings);
});

it("tells of keys that stand twice", () => {
  const rows = rowsOf({ a: "1", b: "2" });
  expect(twice(rows)).toBeUndefined();
  expect(twice([...rows, { id: 9, key: " a ", value: "3" }, { id: 10, key: "", value: "" }])).toBe("a");
  expect(fieldsOf([...rows, { id: 10, key: " ", value: "x" }])).toEqual({ a: "1", b: "2" });
});
