/**
 * How the dashboard feels with a large fleet: what people do on the list of devices and on a rollout, how long each takes until it is
 * painted, the longest frame, and what the tab holds after minutes of live events.
 *
 * `AIDOS_URL=… AIDOS_API_KEY=… AIDOS_BENCH_ROLLOUT=dep_… node bench/large.mjs`; `AIDOS_BENCH_MINUTES` says how long it stays live. It prints
 * a line `name value unit limit` for each figure. `cargo xtask bench pages` makes the fleet and runs it.
 */
import { readFileSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { chromium } from "playwright-core";

const { AIDOS_URL: url, AIDOS_API_KEY: key, AIDOS_BENCH_ROLLOUT: rollout, AIDOS_BENCH_MINUTES: minutes = "30" } = process.env;
if (!url || !key || !rollout) throw new Error("AIDOS_URL, AIDOS_API_KEY and AIDOS_BENCH_ROLLOUT say what to look at");
const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"];
const TIMES = 30;
const MIB = 1 << 20;

const figure = (name, value, unit, limit) => console.log(`${name} ${value.toFixed(2)} ${unit} ${limit ?? "-"}`);
const quantile = (values, share) => [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * share))];

const browser = await chromium.launch({ executablePath: process.env.AIDOS_CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });
const context = await browser.newContext({ baseURL: url, viewport: { width: 1_280, height: 800 } });
const page = await context.newPage();
await page.addInitScript(() => {
  globalThis.seen = { interactions: [], frames: [] };
  // Both are rounded up to 8 ms by the browser; 16 ms is the least that is told.
  new PerformanceObserver((list) => list.getEntries().forEach((entry) => entry.interactionId && globalThis.seen.interactions.push(entry.duration))).observe({ type: "event", durationThreshold: 16 });
  new PerformanceObserver((list) => list.getEntries().forEach((entry) => globalThis.seen.frames.push(entry.duration))).observe({ type: "long-animation-frame" });
});

await page.goto("/devices");
await page.getByLabel("API key", { exact: true }).fill(key);
await page.getByRole("button", { name: "Sign in" }).click();
const table = page.getByRole("table", { name: "Devices" });
await table.getByRole("link").first().waitFor();

/** What was seen since the page was opened. */
const seen = () => page.evaluate(() => globalThis.seen);
const report = async (name, done) => {
  // What is quicker than the least that is told counts as that.
  const { interactions, frames } = await seen();
  const all = [...interactions, ...Array.from({ length: Math.max(0, done - interactions.length) }, () => 16)];
  figure(`${name}_interaction_p95`, quantile(all, 0.95), "ms", 100);
  figure(`${name}_longest_frame`, Math.max(16, ...frames), "ms", 200);
};

// The list: keys, clicks and the wheel.
let done = 0;
await page.reload();
await table.getByRole("link").first().waitFor();
for (let round = 0; round < TIMES; round++) {
  await table.hover();
  await page.mouse.wheel(0, 2_000);
  await table.getByRole("button", { name: ["Sort by Name", "Sort by Last seen", "Sort by Joined"][round % 3] }).click();
  await table.getByRole("link").first().waitFor();
  await table.getByRole("checkbox").nth(1 + (round % 5)).click();
  const name = `edge-000${round % 10}`;
  await page.getByLabel("Search by name").fill(name);
  await page.getByLabel("Search by name").press("Enter");
  await page.waitForURL((url) => url.searchParams.get("q") === name);
  await table.getByRole("link", { name: new RegExp(name) }).first().waitFor();
  await page.getByLabel("Search by name").fill("");
  await page.getByLabel("Search by name").press("Enter");
  await page.waitForURL((url) => !url.searchParams.has("q"));
  done += 4;
}
await report("ui_devices", done);

// A rollout: pointing at squares, walking over them, choosing outcomes.
await page.goto(`/rollouts/${rollout}`);
const map = page.getByRole("application");
await map.waitFor();
const cells = Number((await map.getAttribute("aria-label")).replace(/\D/g, ""));
figure("ui_rollout_cells", cells, "devices");
const box = await map.boundingBox();
for (let round = 0; round < TIMES; round++) {
  await page.mouse.move(box.x + ((round * 37) % box.width), box.y + ((round * 53) % Math.min(box.height, 300)));
  await map.focus();
  for (const arrow of ["ArrowRight", "ArrowDown", "ArrowLeft"]) await page.keyboard.press(arrow);
}
await report("ui_rollout", TIMES * 3);

// Live: one device is written to each second, as one that flaps.
const { items } = await (await fetch(`${url}/api/v1/devices?limit=1`, { headers: { authorization: `Bearer ${key}` } })).json();
const renderer = await browser.newBrowserCDPSession();
const held = async () => {
  const { processInfo } = await renderer.send("SystemInfo.getProcessInfo");
  const pids = processInfo.filter(({ type }) => type === "renderer").map(({ id }) => id);
  const own = (pid) => [...readFileSync(`/proc/${pid}/smaps_rollup`, "utf8").matchAll(/^Private_(?:Clean|Dirty):\s+(\d+) kB/gm)].reduce((sum, [, kib]) => sum + Number(kib), 0);
  return Math.max(...pids.map(own)) * 1_024 / MIB;
};
await page.goto("/devices");
await table.getByRole("link").first().waitFor();
const end = Date.now() + Number(minutes) * 60_000;
for (let second = 0; Date.now() < end; second++) {
  const body = JSON.stringify({ notes: { flap: String(second) } });
  await fetch(`${url}/api/v1/devices/${items[0].id}`, { method: "PATCH", headers: { authorization: `Bearer ${key}`, "content-type": "application/json" }, body });
  if (second % 60 === 0) {
    const path = ["/devices", `/rollouts/${rollout}`, "/", `/devices/${items[0].id}`][(second / 60) % 4];
    await page.evaluate((to) => (history.pushState({}, "", to), dispatchEvent(new PopStateEvent("popstate"))), path);
  }
  await pause(1_000);
}
figure("ui_tab_private_memory", await held(), "MiB", 300);
figure("ui_minutes_live", Number(minutes), "min");
await browser.close();
