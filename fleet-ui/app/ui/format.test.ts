import { describe, expect, it } from "vitest";
import { ago, bytes, duration, gateValue, unitOf } from "./format";

it.each([[0, "0 B"], [1_023, "1,023 B"], [1_024, "1 KiB"], [1_536, "1.5 KiB"], [-2_048, "-2 KiB"], [2 ** 60, "1,024 PiB"]])("%d bytes", (n, said) => expect(bytes(n)).toBe(said));

it.each([[0, "0 s"], [59.9, "59 s"], [60, "1 min"], [3_900, "1 h 5 min"], [90_061, "1 d 1 h"]])("%d seconds", (seconds, said) => expect(duration(seconds)).toBe(said));

describe("a moment seen from now", () => {
  const now = Date.UTC(2_026, 0, 1);
  it.each([
    [4, "just now"], [-4, "just now"], [-59, "59 sec. ago"], [-60, "1 min. ago"], [-119, "1 min. ago"], [7_200, "in 2 hr."], [-86_400, "yesterday"], [86_400 * 3, "in 3 days"],
  ])("%d s away", (seconds, said) => expect(ago(now + seconds * 1_000, now)).toBe(said));
});

it.each([["rx_bytes_per_s", 2_048, "2 KiB/s"], ["used_bytes", 512, "512 B"], ["cpu_percent", 12.34, "12.3 %"], ["p99_us", 1_500, "1.5 ms"], ["p99_us", 999, "999 µs"], ["rtt_ms", 12.34, "12.3 ms"], ["rtt_ms", 2_600, "2.6 s"], ["soc_c", 41, "41 °C"], ["load_1", 0.5, "0.5"]])(
  "%s has its unit", (metric, value, said) => expect(unitOf(metric)(value)).toBe(said),
);

it.each([["p95<1.5x", 12_000, "12 ms"], ["error_rate<1%", 0.005, "0.5 %"], ["memory<2x", 1_048_576, "1 MiB"], ["drift", 0.123_456, "0.1235"]])(
  "the gate %s is measured in its unit", (gate, value, said) => expect(gateValue(gate, value)).toBe(said),
);
