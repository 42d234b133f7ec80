/** What people do with a fleet, from the first sign-in on: a journey may go on from what the one before it left. */
import { describe, expect, it } from "vitest";
import { accessible, fits, open, signIn } from "./browser";
import { push, wrongGolden } from "./models";
import { pagesOf } from "./pages";
import { browser, local, stack } from "./stage";
import { eventually } from "./stack";

describe("signing in", () => {
  it("takes the owner's key, says what is wrong with another, and keeps the address", async () => {
    const { page, context, faults } = await open(browser, stack);
    await page.goto("/rollouts?phase=running");
    await page.getByLabel("API key").fill("aidos_not-a-key");
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByRole("alert").getByText("does not know this key").waitFor();
    await signIn(page, stack.ownerKey);
    await page.getByRole("heading", { level: 1, name: "Rollouts" }).waitFor();
    expect(new URL(page.url()).search).toBe("?phase=running");
    const [cookie] = await context.cookies();
    expect(cookie).toMatchObject({ name: "__Host-aidos", httpOnly: true, secure: true, sameSite: "Strict" });
    expect(faults.said).toEqual([]);
    await context.close();
  });

  it("takes the link that `aidos open` prints, once", async () => {
    const link = stack.aidos("open", "--print").trim();
    const { page, context } = await open(browser, stack);
    await page.goto(link);
    await page.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
    expect(page.url()).not.toContain("code");
    await context.close();
    const again = await open(browser, stack);
    await again.page.goto(link);
    await again.page.getByRole("alert").getByText("aidos open").waitFor();
    await again.context.close();
  });

  it("ends where the key is revoked, and leads back to the same address", async () => {
    const made = await stack.api<{ id: string; secret: string }>("POST", "keys", { name: "short", role: "operator" });
    const { page, context } = await open(browser, stack);
    await page.goto("/devices?q=x");
    await signIn(page, made.secret);
    await page.getByRole("heading", { level: 1, name: "Devices" }).waitFor();
    await stack.api("DELETE", `keys/${made.id}`);
    await page.getByLabel("Search by name").fill("y");
    await page.getByLabel("Search by name").press("Enter");
    await page.getByLabel("API key").waitFor();
    await signIn(page, stack.ownerKey);
    await page.waitForURL((url) => url.pathname === "/devices" && url.searchParams.get("q") === "y");
    await context.close();
  });
});

describe("the fleet", () => {
  it("gets a device by the line that is shown, and opens it", async () => {
    const { page, context, faults } = await open(browser, stack);
    await page.goto("/");
    await signIn(page, stack.ownerKey);
    await page.getByRole("link", { name: "Add device" }).click();
    await page.getByLabel("Labels for what joins").fill("site=lab");
    await page.getByRole("button", { name: "Make the line" }).click();
    const line = await page.locator(".command code").innerText();
    await page.getByRole("img", { name: "QR code of the line" }).waitFor();
    expect(await page.getByRole("timer").innerText()).toMatch(/59 min|1 h/);
    const id = await stack.agent("edge-1", line);
    await page.waitForURL(`**/devices/${id}`);
    await page.getByRole("heading", { level: 1, name: /edge-1/ }).waitFor();
    await page.getByText("online").filter({ visible: true }).first().waitFor();
    expect(faults.said).toEqual([]);
    await context.close();
  });

  it("gets a version in three clicks, and its progress is watched", async () => {
    push(stack, 2);
    const { page, context, faults } = await open(browser, stack);
    await page.goto("/models/digits");
    await signIn(page, stack.ownerKey);
    // One, two, three.
    await page.getByRole("link", { name: "Roll out version 2" }).click();
    await page.getByText("Everyone at once").click();
    const start = page.getByRole("button", { name: "Start the rollout" });
    await eventually("the plan is foretold", async () => start.isEnabled());
    await page.getByText(/devices match now/).waitFor();
    await start.click();
    await page.waitForURL(/\/rollouts\/dep_/);
    await page.getByRole("heading", { level: 1 }).getByText("finished").waitFor({ timeout: 60_000 });
    await page.getByRole("application", { name: /Map of 2 devices/ }).waitFor();
    await page.getByRole("table", { name: /Devices/ }).getByRole("link", { name: "edge-1" }).waitFor();
    expect(faults.said).toEqual([]);
    await context.close();
  });

  it("is spared a bad version, which stops by itself and says why", async () => {
    push(stack, 3, ["--golden", wrongGolden(stack)]);
    const { page, context } = await open(browser, stack);
    await page.goto("/rollouts/new?subject=digits@3");
    await signIn(page, stack.ownerKey);
    const start = page.getByRole("button", { name: "Start the rollout" });
    await eventually("the plan is foretold", async () => start.isEnabled());
    await start.click();
    await page.getByRole("heading", { level: 1 }).getByText("aborted").waitFor({ timeout: 60_000 });
    await page.getByText(/of 1 devices of wave 1 failed/).filter({ visible: true }).first().waitFor();
    await page.getByText("Its devices went back to what held before.").waitFor();
    await page.getByRole("link", { name: "Wave 1" }).click();
    await page.getByRole("table", { name: /Devices/ }).getByText("failed").first().waitFor();
    const rollout = new URL(page.url()).pathname.split("/").at(-1);
    const { items } = await stack.api<{ items: { device: string }[] }>("GET", `rollouts/${rollout}/devices?outcome=failed`);
    // The device says the same of itself, and the list finds it by its phase.
    await page.goto(`/devices/${items[0]!.device}?tab=updates`);
    const updates = page.getByRole("table", { name: "Updates" });
    await updates.locator(".state-bad").first().waitFor();
    await updates.getByText("· holds").first().waitFor();
    await accessible(page);
    await page.setViewportSize({ width: 390, height: 800 });
    await fits(page);
    await page.setViewportSize({ width: 1280, height: 800 });
    await updates.getByRole("link", { name: "digits@3" }).click();
    await page.waitForURL(`**/rollouts/${rollout}`);
    await page.goto("/rollouts?phase=aborted");
    await page.getByRole("table", { name: "Rollouts" }).getByRole("link", { name: "digits@3" }).waitFor();
    expect(await page.getByRole("table", { name: "Rollouts" }).getByRole("link", { name: "digits@2" }).count()).toBe(0);
    await context.close();
  });

  it("answers to a picture from the browser", async () => {
    const { page, context, faults } = await open(browser, stack);
    await page.goto("/models/digits?tab=try");
    await signIn(page, stack.ownerKey);
    await eventually("a device runs it", async () => page.getByRole("button", { name: "Choose a file" }).isEnabled());
    await page.locator("input[type=file]").setInputFiles(new URL("../../models/digits/samples/7.png", import.meta.url).pathname);
    const best = page.locator(".answer-row").first();
    await best.getByText("7", { exact: true }).waitFor();
    expect(Number.parseFloat((await best.locator(".end").innerText()).replace(",", ""))).toBeGreaterThan(90);
    await page.getByText("JSON", { exact: true }).click();
    await page.getByLabel(/^Request/).fill("{ not json");
    await page.getByRole("button", { name: "Run" }).click();
    await page.getByRole("alert").getByText("This is not JSON").waitFor();
    expect(faults.said).toEqual([]);
    await context.close();
  });

  it("merges what two people write, and asks where they disagree", async () => {
    const { page, context } = await open(browser, stack);
    await page.goto(`/devices/${local.id}`);
    await signIn(page, stack.ownerKey);
    await page.getByRole("button", { name: "Edit: Labels" }).click();
    await page.getByLabel("Value 1").fill("hall");
    await page.getByRole("button", { name: "Add" }).click();
    await page.getByLabel("Key 2").fill("shelf");
    await page.getByLabel("Value 2").fill("3");
    await stack.api("PATCH", `devices/${local.id}`, { labels: { site: "cellar", rack: "9" } });
    await page.getByRole("button", { name: "Save" }).click();
    await page.getByText("Someone else changed this meanwhile").waitFor();
    await page.getByLabel(/Theirs/).check();
    await page.getByRole("button", { name: "Save the choice" }).click();
    await eventually("all of it is there", async () => {
      const { labels } = await stack.api<{ labels: Record<string, string> }>("GET", `devices/${local.id}`);
      return labels.site === "cellar" && labels.rack === "9" && labels.shelf === "3";
    });
    await page.getByText("shelf=3").waitFor();
    await context.close();
  });

  it("shows what is done as it is done", async () => {
    const { page, context } = await open(browser, stack);
    await page.goto("/activity?action=device.edit");
    await signIn(page, stack.ownerKey);
    await page.getByRole("heading", { level: 1, name: "Activity" }).waitFor();
    await page.waitForFunction(() => !document.querySelector("[class*=Skeleton]"));
    await stack.api("PATCH", `devices/${local.id}`, { notes: { seen: "as-it-happens" } });
    // Nothing is asked for again by the clock.
    await page.getByText(/as-it-happens/).filter({ visible: true }).first().waitFor({ timeout: 10_000 });
    await context.close();
  });

  it("shows what a site wrote while it was offline", async () => {
    const id = await stack.device("edge-2", { site: "lab" });
    const { page, context } = await open(browser, stack);
    await page.goto(`/devices/${id}`);
    await signIn(page, stack.ownerKey);
    await page.getByText("site=lab").filter({ visible: true }).first().waitFor();
    await stack.kill();
    await page.getByText(/No connection to the control plane: data as of/).waitFor({ timeout: 60_000 });
    // What was shown stays.
    await page.getByText("site=lab").filter({ visible: true }).first().waitFor();
    stack.site("edge-2", "labels", "set", "shelf=7");
    await stack.start();
    // By itself, without a reload.
    await page.getByText(/No connection to the control plane/).waitFor({ state: "detached", timeout: 60_000 });
    await page.getByText("shelf=7").filter({ visible: true }).first().waitFor({ timeout: 60_000 });
    await page.getByRole("tab", { name: "Activity" }).click();
    await page.getByText(/site:/).filter({ visible: true }).first().waitFor();
    await context.close();
  });

  it("keeps tenants apart, and shows a viewer no button that would be refused", async () => {
    const other = await stack.api<{ owner_key: string }>("POST", "tenants", { name: "other" });
    const theirs = await open(browser, stack);
    await theirs.page.goto("/devices");
    await signIn(theirs.page, other.owner_key);
    await theirs.page.getByText("No device has joined yet").waitFor();
    await theirs.page.goto(`/devices/${local.id}`);
    await theirs.page.getByRole("alert").waitFor();
    await theirs.context.close();

    const viewer = await open(browser, stack);
    await viewer.page.goto(`/devices/${local.id}`);
    await signIn(viewer.page, await stack.key("viewer"));
    await viewer.page.getByRole("heading", { level: 1 }).waitFor();
    for (const name of ["Actions", "Rename", "Edit: Labels"]) expect(await viewer.page.getByRole("button", { name }).count(), name).toBe(0);
    for (const path of ["/", "/devices", "/models/digits", "/rollouts"]) {
      await viewer.page.goto(path);
      await viewer.page.getByRole("heading", { level: 1 }).waitFor();
      for (const name of ["Add device", "Roll out"]) expect(await viewer.page.getByRole("link", { name }).count(), `${path}: ${name}`).toBe(0);
    }
    await viewer.context.close();
  });

  it("runs nothing that people wrote", async () => {
    const evil = `<img src=x onerror="window.__xss=1"><script>window.__xss=1</script>"'\`{{7*7}}`;
    const id = await stack.device("edge-3", { site: "lab" });
    await stack.api("PATCH", `devices/${id}`, { name: evil, notes: { evil, rtl: "\u202Eمرحبا بالعالم", long: "x".repeat(2_000) } });
    await stack.api("PATCH", "models/digits", { description: evil.slice(0, 200), card: `# ${evil}\n\n[go](javascript:window.__xss=1) ![p](x) <iframe srcdoc="<script>parent.__xss=1</script>"></iframe>\n\n| a | b |\n|---|---|\n| ${evil} | [go](javascript:window.__xss=1) |\n\nwww.example.net javascript:window.__xss=1\n\n[ok](https://example.org)` });
    const { page, context, faults } = await open(browser, stack, { width: 390 });
    await page.goto("/");
    await signIn(page, stack.ownerKey);
    for (const path of ["/", "/devices", `/devices/${id}`, `/devices/${id}?tab=twin`, "/models", "/models/digits?tab=card", "/activity"]) {
      await page.goto(path);
      await page.getByRole("heading", { level: 1 }).waitFor();
      await page.waitForFunction(() => !document.querySelector("[class*=Skeleton]"));
      expect(await page.evaluate(() => (window as { __xss?: number }).__xss), path).toBeUndefined();
      await fits(page);
    }
    await page.goto("/models/digits?tab=card");
    await page.getByRole("link", { name: "ok" }).waitFor();
    await page.getByRole("link", { name: "www.example.net" }).waitFor();
    await page.getByRole("cell", { name: "go" }).waitFor();
    expect(await page.locator("a[href^='javascript'], .markdown :is(img, script, iframe)").count()).toBe(0);
    expect(faults.said).toEqual([]);
    await context.close();
  });

  it("is steered by the keyboard alone", async () => {
    const { page, context } = await open(browser, stack);
    await page.goto("/");
    await signIn(page, stack.ownerKey);
    await page.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
    await page.keyboard.press("g");
    await page.keyboard.press("d");
    await page.getByRole("heading", { level: 1, name: "Devices" }).waitFor();
    await page.getByRole("link", { name: "edge-1" }).waitFor();
    await page.keyboard.press("Shift+?");
    await page.getByRole("dialog", { name: "Keyboard shortcuts" }).waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    await page.getByRole("table", { name: "Devices" }).getByRole("link").first().focus();
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("Enter");
    await page.waitForURL(/\/devices\/dev_/);
    await page.keyboard.press("Control+k");
    await page.getByPlaceholder(/Go to a page/).fill("edge-1");
    await page.getByRole("button", { name: /edge-1/ }).first().waitFor();
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { level: 1, name: /edge-1/ }).waitFor();
    await context.close();
  });
});

describe.each(["light", "dark"] as const)("every page in %s", (scheme) => {
  it("is accessible, fits a phone, and raises no error", async () => {
    const { items } = await stack.api<{ items: { id: string }[] }>("GET", "rollouts?limit=1");
    const { page, context, faults } = await open(browser, stack, { scheme });
    await page.goto("/sign-in");
    await accessible(page);
    await signIn(page, stack.ownerKey);
    for (const { path, heading } of pagesOf({ device: local.id, rollout: items[0]!.id })) {
      await page.setViewportSize({ width: 1280, height: 800 });
      await page.goto(path);
      await page.getByRole("heading", { level: 1, name: heading }).waitFor();
      await page.locator("[class*=Skeleton]").first().waitFor({ state: "detached" });
      await accessible(page);
      await page.setViewportSize({ width: 390, height: 800 });
      await fits(page);
    }
    expect(faults.said).toEqual([]);
    await context.close();
  }, 300_000);
});
