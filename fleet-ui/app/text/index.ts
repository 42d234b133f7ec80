/** All words that people read, in one place, by noun; a translation replaces these objects. */
import { activity } from "./activity";
import { devices } from "./devices";
import { enrol } from "./enrol";
import { errors } from "./errors";
import { models } from "./models";
import { overview } from "./overview";
import { rollouts } from "./rollouts";
import { settings } from "./settings";
import { session, shell } from "./shell";
import { ui } from "./ui";

export { counted, number } from "./ui";
export const text = { activity, devices, enrol, errors, models, overview, rollouts, settings, session, shell, ui };
