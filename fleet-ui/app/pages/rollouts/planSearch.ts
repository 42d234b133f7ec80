/** A plan of one's own in the address, so that it can be sent to others: each part that is not as it is at first. Pure. */
import type { Search } from "~/shell/search";
import { EXPERIMENTS, PLANS, type PlanForm } from "./plan";

/** The control plane's bounds are narrower where it has some; these keep what cannot be meant out of the form. */
const MINUTES = { min: 0, max: 525_600 } as const;
const COUNT = { min: 0, max: 1_000_000_000 } as const;

export const PLAN_SEARCH = {
  waves: "any text", soakMinutes: MINUTES, maxFailed: "any text", maxUnavailable: "any text", gates: "any text", autoRevert: "flag", approve: "flag",
  pauseOnFailure: "flag", window: "any text", priority: { min: -1_000, max: 1_000 }, minBattery: { min: 0, max: 100 }, maxTemperature: { min: -40, max: 150 },
  experiment: EXPERIMENTS, experimentPercent: { min: 1, max: 100 }, experimentMinutes: { min: 1, max: 525_600 }, experimentKey: "any text",
  deadlineMinutes: MINUTES, watchMinutes: MINUTES, minRequests: COUNT, notAfter: "any text",
  arch: "any text", accelerator: "any text", engine: "any text", minAgentVersion: "any text", minMemoryMib: COUNT, minDiskMib: COUNT,
} as const satisfies Record<keyof PlanForm, unknown>;

export type PlanSearch = Search<typeof PLAN_SEARCH>;

const FIELDS = Object.keys(PLAN_SEARCH) as (keyof PlanForm)[];

/** What the address says, over what stands there at first. */
export function formOf(search: PlanSearch): PlanForm {
  const said = FIELDS.filter((field) => search[field] !== undefined).map((field) => [field, search[field]]);
  return { ...PLANS.custom, ...(Object.fromEntries(said) as Partial<PlanForm>) };
}

/** What the address is to say; what is as at first, or left empty where it was empty, is taken out. */
export function searchOf(form: PlanForm): PlanSearch {
  return Object.fromEntries(FIELDS.map((field) => [field, form[field] === PLANS.custom[field] ? undefined : form[field]])) as PlanSearch;
}
