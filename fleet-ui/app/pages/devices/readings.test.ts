import { expect, it } from "vitest";
import { linkReadings } from "./readings";

const metrics = [{ name: "link.rtt_ms", value: 12.5 }, { name: "link.sent_bytes_per_s" }, { name: "link.received_bytes_per_s", value: null }, { name: "spool.waiting_samples", value: 0 }, { name: "cpu.percent", value: 7 }];

it("tells what was read, zero too, and leaves out what has no reading", () => {
  expect(linkReadings(metrics, true)).toEqual({ roundTrip: 12.5, samples: 0 });
  expect(linkReadings([], true)).toEqual({});
});

it("says nothing of the present of a device that is away", () => expect(linkReadings(metrics, false)).toEqual({}));
