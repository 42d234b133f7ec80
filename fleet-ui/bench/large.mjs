/**
 * How the dashboard feels with a large fleet: what people do on the list of devices and on a rollout, how long each takes until it is
 * painted, the longest frame, and what the tab holds after minutes of live events.
 *
 * `AIDOS_URL=… AIDOS_API_KEY=… AIDOS_BENCH_ROLLOUT=dep_… AIDOS_BENCH_DEVICE=… node bench/large.mjs`; `AIDOS_BENCH_MINUTES` says how long it stays live. It prints
 * a line `name value unit limit` for each figure. `cargo xtask bench pages` makes the fleet and runs it.
 */
import { readFileSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { chromium } from "playwright-core";

const { AIDOS_URL: url, AIDOS_API_KEY: key, AIDOS_BENCH_ROLLOUT: rollout, AIDOS_BENCH_DEVICE: device, AIDOS_BENCH_MINUTES: minutes = "30" } = process.env;
if (!url || !key || !rollout || !device) throw new Error("AIDOS_URL, AIDOS_API_KEY, AIDOS_BENCH_ROLLOUT and AIDOS_BENCH_DEVICE say what to look at");
const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"];
const TIMES = 30;
const MIB = 1 << 20;

const figure = (name, value, unit, limit) => console.log(`${name} ${value.toFixed(2)} ${unit} ${limit ?? "-"}`);
const quantile = (values, share) => [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * share))];

const browser = await chromium.launch({ executablePath: process.env.AIDOS_CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });
/** A window of its own at `path`, signed in, that notes how long what is done in it takes. */
const opened = async (path) => {
  const context = await browser.newContext({ baseURL: url, viewport: { width: 1_280, height: 800 } });
  const page = await context.newPage();
  await page.addInitScript(() => {
    globalThis.seen = { interactions: [], frames: [] };
    // Both are rounded up to 8 ms by the browser; 16 ms is the least that is told.
    new PerformanceObserver((list) => list.getEntries().forEach((entry) => entry.interactionId && globalThis.seen.interactions.push(entry.duration))).observe({ type: "event", durationThreshold: 16 });
    new PerformanceObserver((list) => list.getEntries().forEach((entry) => globalThis.seen.frames.push(entry.duration))).observe({ type: "long-animation-frame" });
  });
  await page.goto(path);
  await page.getByLabel("API key", { exact: true }).fill(key);
  await page.getByRole("button", { name: "Sign in" }).click();
  return page;
};
const page = await opened("/devices");
const table = page.getByRole("table", { name: "Devices" });
await table.getByRole("link").first().waitFor();

/** Says what was seen since `page` was opened, of which `done` were interactions. */
const report = async (page, name, done) => {
  const { interactions, frames } = await page.evaluate(() => globalThis.seen);
  // What is quicker than the least that is told counts as that.
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
await report(page, "ui_devices", done);

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
await report(page, "ui_rollout", TIMES * 3);

// Charts: pointing along them and drawing a span to look closer, with 10,000 readings of each series behind them, which the control plane
// thins, and then with as many points of each series drawn.
const asked = async (path) => (await fetch(`${url}/api/v1/${path}`, { headers: { authorization: `Bearer ${key}` } })).json();
const { last_at: last } = await asked(`devices/${device}/telemetry/metrics`);
const HOUR = 3_600;
const POINTS = 10_000;
const [from, to] = [Math.floor(last / 1e6) - HOUR, Math.ceil(last / 1e6)];
const hour = `/devices/${device}?tab=vitals&from=${from}&to=${to}`;
const pointAndDraw = async (page, name) => {
  const charts = page.locator(".vitals .u-over");
  await charts.first().waitFor();
  let did = 0;
  for (let round = 0; round < TIMES; round++) {
    const chart = charts.nth(round % (await charts.count()));
    await chart.scrollIntoViewIfNeeded();
    const { x, y, width, height } = await chart.boundingBox();
    for (let step = 0; step <= 20; step++) await page.mouse.move(x + (width * step) / 21, y + height / 2);
    const before = page.url();
    await page.mouse.move(x + width * 0.2, y + height / 2);
    await page.mouse.down();
    await page.mouse.move(x + width * 0.8, y + height / 2, { steps: 10 });
    await page.mouse.up();
    await page.waitForURL((url) => url.href !== before);
    did += 1;
    // A few looks closer, and again from the whole hour.
    if (round % 5 === 4) await page.evaluate((to) => (history.pushState({}, "", to), dispatchEvent(new PopStateEvent("popstate"))), hour);
  }
  await report(page, name, did);
};
const { series } = await asked(`devices/${device}/telemetry?from=${from * 1e6}&to=${to * 1e6}&points=600`);
figure("ui_vitals_readings_of_a_series", series[0].points.reduce((sum, { count }) => sum + count, 0), "readings");
await page.goto(hour);
await pointAndDraw(page, "ui_vitals");
const unthinned = await opened(hour);
await unthinned.route(/\/telemetry\?/, async (route) => {
  const asked = new URL(route.request().url()).searchParams;
  const [begin, end] = [Number(asked.get("from")), Number(asked.get("to"))];
  const point = (index) => {
    const avg = 50 + 40 * Math.sin(index / 300) + Math.random() * 10;
    return { at: Math.round(begin + ((end - begin) * index) / POINTS), min: avg, max: avg, avg, count: 1 };
  };
  const drawn = asked.get("metric").split(",").map((metric) => ({ metric, points: Array.from({ length: POINTS }, (_, index) => point(index)) }));
  await route.fulfill({ json: { device, from: begin, to: end, bucket_us: Math.round((end - begin) / POINTS), series: drawn } });
});
await unthinned.reload();
await pointAndDraw(unthinned, "ui_vitals_unthinned");
await unthinned.context().close();

// Live: one device is written to each second, as one that flaps.
const { items } = await asked("devices?limit=1");
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
