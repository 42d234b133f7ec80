/** What the journeys of a file play on: what `aidos up` makes, the device within it, and a browser. Ended after the last of them. */
import type { Browser } from "playwright-core";
import { afterAll, beforeAll } from "vitest";
import { launch } from "./browser";
import { Stack, type Device } from "./stack";

export let stack: Stack;
export let browser: Browser;
/** The device of `aidos up`. */
export let local: Device;

beforeAll(async () => {
  [stack, browser] = await Promise.all([Stack.up(), launch()]);
  local = (await stack.api<{ items: Device[] }>("GET", "devices")).items[0]!;
});
afterAll(async () => {
  await browser?.close();
  await stack?.stop();
});
