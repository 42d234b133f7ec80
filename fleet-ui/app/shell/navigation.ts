/** The entries of the navigation, in order; the letter goes there after `g`. A new page is one line here. */
import { IconActivity, IconBox, IconLayoutDashboard, IconRocket, IconServer2, IconSettings } from "@tabler/icons-react";
import { text } from "~/text";

export const NAVIGATION = [
  { to: "/", label: text.shell.nav.overview, icon: IconLayoutDashboard, letter: "o" },
  { to: "/devices", label: text.shell.nav.devices, icon: IconServer2, letter: "d" },
  { to: "/rollouts", label: text.shell.nav.rollouts, icon: IconRocket, letter: "r" },
  { to: "/models", label: text.shell.nav.models, icon: IconBox, letter: "m" },
  { to: "/activity", label: text.shell.nav.activity, icon: IconActivity, letter: "a" },
  { to: "/settings", label: text.shell.nav.settings, icon: IconSettings, letter: "s" },
] as const;
