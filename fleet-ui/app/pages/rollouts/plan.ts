/** The form of a rollout and the plan that it means. Pure. */
import type { Schemas } from "~/api/client";

/** A plan as it is sent: what is absent is as the control plane has it. */
export type PlanWish = Partial<Omit<Schemas["Plan"], "constraints">> & { readonly constraints?: Partial<Schemas["Constraints"]> };
export type Preset = "careful" | "quick" | "all" | "custom";

export const EXPERIMENTS = ["none", "shadow", "split"] as const;
export type Experiment = (typeof EXPERIMENTS)[number];

export interface PlanForm {
  readonly waves: string;
  readonly soakMinutes: number;
  readonly maxFailed: string;
  readonly maxUnavailable: string;
  /** One a line. */
  readonly gates: string;
  readonly autoRevert: boolean;
  readonly approve: boolean;
  readonly pauseOnFailure: boolean;
  readonly window: string;
  readonly priority: number;
  readonly minBattery: number | "";
  readonly maxTemperature: number | "";
  readonly experiment: Experiment;
  readonly experimentPercent: number;
  readonly experimentMinutes: number;
  /** Of a split: the request parameter that decides. */
  readonly experimentKey: string;
  readonly deadlineMinutes: number | "";
  readonly watchMinutes: number | "";
  readonly minRequests: number | "";
  /** As a date field writes it, in the browser's time zone: `2026-12-01T06:00`. */
  readonly notAfter: string;
  readonly arch: string;
  readonly accelerator: string;
  readonly engine: string;
  readonly minAgentVersion: string;
  readonly minMemoryMib: number | "";
  readonly minDiskMib: number | "";
}

const CAREFUL: PlanForm = {
  waves: "1%,10%,50%,100%", soakMinutes: 10, maxFailed: "0", maxUnavailable: "", gates: "error_rate<1%\np95<1.5x", autoRevert: true,
  approve: false, pauseOnFailure: false, window: "", priority: 0, minBattery: "", maxTemperature: "",
  experiment: "none", experimentPercent: 10, experimentMinutes: 10, experimentKey: "",
  deadlineMinutes: "", watchMinutes: "", minRequests: "", notAfter: "",
  arch: "", accelerator: "", engine: "", minAgentVersion: "", minMemoryMib: "", minDiskMib: "",
};

export const PLANS: Record<Preset, PlanForm> = {
  careful: CAREFUL,
  quick: { ...CAREFUL, waves: "10%,100%", soakMinutes: 2 },
  all: { ...CAREFUL, waves: "100%", soakMinutes: 0, gates: "", autoRevert: false, maxFailed: "5%" },
  custom: CAREFUL,
};

const MINUTE_S = 60;
const MIB = 1 << 20;

const seconds = (minutes: number) => Math.round(minutes * MINUTE_S);

function constraintsOf(form: PlanForm): Partial<Schemas["Constraints"]> {
  return {
    ...(form.arch.trim() && { arch: form.arch.trim() }),
    ...(form.accelerator.trim() && { accelerator: form.accelerator.trim() }),
    ...(form.engine.trim() && { engine: form.engine.trim() }),
    ...(form.minAgentVersion.trim() && { min_agent_version: form.minAgentVersion.trim() }),
    ...(form.minMemoryMib !== "" && { min_memory_bytes: Math.round(form.minMemoryMib * MIB) }),
    ...(form.minDiskMib !== "" && { min_free_disk_bytes: Math.round(form.minDiskMib * MIB) }),
  };
}

function experimentOf(form: PlanForm): PlanWish {
  if (form.experiment === "none") return {};
  const percent = form.experimentPercent;
  const key = form.experimentKey.trim();
  const experiment = form.experiment === "shadow" ? { kind: "shadow" as const, percent } : { kind: "split" as const, percent, ...(key && { key }) };
  return { experiment, experiment_s: seconds(form.experimentMinutes) };
}

/** What is empty is left to the control plane. */
export function planOf(form: PlanForm): PlanWish {
  const constraints = constraintsOf(form);
  const notAfter = Date.parse(form.notAfter);
  return {
    waves: form.waves.trim(),
    soak_s: seconds(form.soakMinutes),
    max_failed: form.maxFailed.trim() || "0",
    gates: form.gates.split("\n").map((gate) => gate.trim()).filter(Boolean),
    auto_revert: form.autoRevert,
    approve: form.approve,
    on_failure: form.pauseOnFailure ? "pause" : "abort",
    priority: form.priority,
    ...(form.maxUnavailable.trim() && { max_unavailable: form.maxUnavailable.trim() }),
    ...(form.window.trim() && { window: form.window.trim() }),
    ...(form.minBattery !== "" && { min_battery_percent: form.minBattery }),
    ...(form.maxTemperature !== "" && { max_temperature_c: form.maxTemperature }),
    ...(form.deadlineMinutes !== "" && { deadline_s: seconds(form.deadlineMinutes) }),
    ...(form.watchMinutes !== "" && { watch_s: seconds(form.watchMinutes) }),
    ...(form.minRequests !== "" && { min_requests: form.minRequests }),
    ...(Number.isFinite(notAfter) && { not_after_us: notAfter * 1_000 }),
    ...experimentOf(form),
    ...(Object.keys(constraints).length > 0 && { constraints }),
  };
}
