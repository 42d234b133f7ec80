/** What disturbs a page: a clock that is wrong, a device that flaps, a form that is not taken, paper. No test needs another one. */
import { setTimeout as pause } from "node:timers/promises";
import type { Page } from "playwright-core";
import { describe, expect, it } from "vitest";
import { fits, open, signIn } from "./browser";
import { browser, local, stack } from "./stage";

describe("a clock that is wrong", () => {
  /** In the page: its clock is so many minutes ahead. */
  const shift = (minutes: number) => {
    const Real = Date;
    const ahead = minutes * 60_000;
    globalThis.Date = class extends Real {
      constructor(...given: []) {
        super(...(given.length > 0 ? given : [Real.now() + ahead] as unknown as []));
      }
      static override now() {
        return Real.now() + ahead;
      }
    } as DateConstructor;
  };
  const banner = (page: Page) => page.getByRole("status").getByText(/This computer's clock is/);

  it.each([20, -20])("by %i minutes is told of, and times are those of the control plane", async (minutes) => {
    const { page, context, faults } = await open(browser, stack);
    await context.addInitScript(shift, minutes);
    await stack.api("PATCH", "models/digits", { description: `written at ${minutes} minutes` });
    await page.goto("/activity");
    await signIn(page, stack.ownerKey);
    await banner(page).waitFor();
    // A second may pass on the way.
    expect(await banner(page).innerText()).toMatch(/clock is (20 min|19 min 5\d s)/);
    await page.locator("main time").first().waitFor();
    const told = await page.locator("main time").allInnerTexts();
    // The stack was started minutes ago at most: nothing is to come, and nothing is as old as the clock is wrong.
    for (const time of told) expect(time).toMatch(/^(just now|now|\d+ sec\. ago|\d min\. ago|1[0-7] min\. ago)$/);
    await page.getByRole("link", { name: "Devices", exact: true }).click();
    await page.getByRole("heading", { level: 1, name: "Devices" }).waitFor();
    await banner(page).waitFor();
    expect(faults.said).toEqual([]);
    await context.close();
  });

  it("is not told of where it is right", async () => {
    const { page, context } = await open(browser, stack);
    await page.goto("/");
    await signIn(page, stack.ownerKey);
    await page.getByText(/Live$/).waitFor();
    await page.locator("main time").first().waitFor();
    expect(await banner(page).count()).toBe(0);
    await context.close();
  });
});

describe("a device that flaps once a second", () => {
  const SECONDS = 12;
  /** Changes are gathered for 1.5 s. */
  const MOST = Math.ceil(SECONDS / 1.5) + 1;
  /** What a person does while it flaps takes no longer. */
  const AT_ONCE = { timeout: 3_000 };

  it("has the list read again a few times, which stays usable and in the end says how it is", async () => {
    const { page, context, faults } = await open(browser, stack);
    await page.goto("/devices");
    await signIn(page, stack.ownerKey);
    await page.getByText(/Live$/).waitFor();
    const table = page.getByRole("table", { name: "Devices" });
    await table.getByRole("link").first().waitFor();
    const lists: string[] = [];
    page.on("request", (request) => {
      const url = new URL(request.url());
      if (url.pathname === "/api/v1/devices") lists.push(url.search);
    });
    const flapping = (async () => {
      for (let second = 0; second < SECONDS; second++) {
        await stack.api("PATCH", `devices/${local.id}`, { notes: { flap: String(second) } });
        await pause(1_000);
      }
    })();

    const box = table.getByRole("checkbox").nth(1);
    await box.check(AT_ONCE);
    await page.getByText("1 selected").waitFor(AT_ONCE);
    const link = table.getByRole("link").first();
    await link.focus();
    await flapping;
    // What was chosen and where one stood outlives each reading.
    expect(await box.isChecked()).toBe(true);
    expect(await link.evaluate((element) => element === document.activeElement)).toBe(true);
    expect(lists.length).toBeGreaterThanOrEqual(2);
    expect(lists.length, lists.join("\n")).toBeLessThanOrEqual(MOST);

    await stack.api("PATCH", `devices/${local.id}`, { labels: { flap: "over" } });
    await table.getByText("flap=over").waitFor();
    await page.getByLabel("Search by name").fill("no such device");
    await page.getByLabel("Search by name").press("Enter", AT_ONCE);
    await page.getByText("No device matches").waitFor(AT_ONCE);
    expect(faults.said).toEqual([]);
    await context.close();
  });
});

describe("a form that is not taken", () => {
  it("says so at the field, and a plan comes back from its address", async () => {
    const { page, context, faults } = await open(browser, stack);
    await page.goto(`/rollouts/new?${new URLSearchParams({ subject: "digits@1", how: "custom", waves: "1%,x%", soakMinutes: "nonsense", approve: "true" })}`);
    await signIn(page, stack.ownerKey);
    const waves = page.getByLabel("Waves", { exact: true });
    await page.getByText("not a number before").first().waitFor();
    expect(await waves.getAttribute("aria-invalid")).toBe("true");
    const soak = page.getByLabel(/^Look at each wave/);
    expect(await soak.inputValue()).toBe("10");
    await waves.fill("5%,100%");
    await soak.fill("3");
    await page.waitForURL((url) => url.searchParams.get("waves") === "5%,100%" && url.searchParams.get("soakMinutes") === "3");
    await page.getByText("devices match now").waitFor();
    await page.reload();
    await page.getByText("devices match now").waitFor();
    expect([await waves.inputValue(), await soak.inputValue()]).toEqual(["5%,100%", "3"]);
    expect(await page.getByLabel("Ask a person before each wave").isChecked()).toBe(true);
    await page.goto("/settings/tenants");
    await page.getByRole("button", { name: "New tenant" }).click();
    const making = page.getByRole("dialog", { name: "New tenant" });
    await making.getByLabel("Name").fill("A B");
    await making.getByRole("button", { name: "Make" }).click();
    await making.getByText(/is not a tenant name/).waitFor();
    expect(await making.getByText("deserialize").count()).toBe(0);
    expect(faults.said).toEqual([]);
    await context.close();
  });
});

describe("a label of ten thousand characters", () => {
  it("is refused at its field, whatever it holds, and the page stays in its frame", async () => {
    const { page, context, faults } = await open(browser, stack, { width: 390 });
    await page.goto(`/devices/${local.id}`);
    await signIn(page, stack.ownerKey);
    await page.getByRole("button", { name: "Edit: Labels" }).click();
    const before = await stack.api<{ labels: Record<string, string> }>("GET", `devices/${local.id}`);
    const refusals = [["x".repeat(10_000), /is 10000 bytes long, the limit is \d+/], ["שלום".repeat(2_500), /is 20000 bytes long/]] as const;
    for (const [value, refusal] of refusals) {
      await page.getByLabel("Value 1").fill(value);
      await page.getByRole("button", { name: "Save" }).click();
      await page.getByRole("dialog").getByText(refusal).waitFor();
      await fits(page);
    }
    expect((await stack.api<{ labels: Record<string, string> }>("GET", `devices/${local.id}`)).labels).toEqual(before.labels);
    expect(faults.said).toEqual([]);
    await context.close();
  });
});

describe("paper", () => {
  it("gets all rows of a list that the window shows a part of, without what is pressed", async () => {
    const EDITS = 40;
    for (let edit = 0; edit < EDITS; edit++) await stack.api("PATCH", "models/digits", { description: `edit ${edit}` });
    const { page, context, faults } = await open(browser, stack, { scheme: "dark" });
    await page.goto("/activity?action=model.edit");
    await signIn(page, stack.ownerKey);
    const table = page.getByRole("table", { name: "Activity" });
    await table.getByRole("row").nth(5).waitFor();
    expect(await table.getByRole("row").count()).toBeLessThan(EDITS);
    await page.emulateMedia({ media: "print" });
    await page.evaluate(() => dispatchEvent(new Event("beforeprint")));
    expect(await table.getByRole("row").count()).toBeGreaterThan(EDITS);
    const last = await table.getByRole("row").last().boundingBox();
    const frame = await table.boundingBox();
    expect(last!.y + last!.height).toBeLessThanOrEqual(frame!.y + frame!.height + 1);
    for (const name of ["Export", "Signed in"]) expect(await page.getByRole("button", { name }).isVisible(), name).toBe(false);
    // Dark on white, whatever the window's colours are.
    expect(await table.getByRole("row").last().evaluate((row) => getComputedStyle(row).color)).toBe("rgb(0, 0, 0)");
    await page.evaluate(() => dispatchEvent(new Event("afterprint")));
    await page.emulateMedia({ media: "screen" });
    await expect.poll(() => table.getByRole("row").count()).toBeLessThan(EDITS);
    expect(faults.said).toEqual([]);
    await context.close();
  });
});
