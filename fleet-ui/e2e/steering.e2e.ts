/** What an operator has a device do from its page: look at itself, leave the traffic, tell what it writes. No test needs another one. */
import { describe, expect, it } from "vitest";
import { accessible, open, signIn } from "./browser";
import { browser, local, stack } from "./stage";

const device = async (tab = "") => {
  const opened = await open(browser, stack);
  await opened.page.goto(`/devices/${local.id}${tab}`);
  await signIn(opened.page, stack.ownerKey);
  await opened.page.getByRole("heading", { level: 1, name: new RegExp(local.name) }).waitFor();
  const choose = async (action: string) => {
    await opened.page.getByRole("button", { name: "Actions" }).click();
    await opened.page.getByRole("menuitem", { name: action, exact: true }).click();
  };
  return { ...opened, choose };
};

describe("a device", () => {
  it("looks at itself when it is probed", async () => {
    const { page, context, choose, faults } = await device();
    await choose("Probe");
    const found = page.getByRole("dialog", { name: `What ${local.name} finds` });
    await found.getByText("certificate").first().waitFor();
    await found.getByText("disk").first().waitFor();
    await accessible(page);
    expect(faults.said).toEqual([]);
    await context.close();
  });

  it("is drained and takes traffic again, and says so as it happens", async () => {
    const { page, context, choose, faults } = await device();
    const drained = page.getByRole("heading", { level: 1 }).getByText("drained");
    await choose("Drain");
    await drained.waitFor();
    await page.reload();
    await drained.waitFor();
    await choose("Undrain");
    await drained.waitFor({ state: "detached" });
    expect(faults.said).toEqual([]);
    await context.close();
  });

  it("brings what it writes to who follows its log, as one command", async () => {
    const { page, context, faults } = await device("?tab=logs");
    await page.getByRole("button", { name: "Follow" }).click();
    const lines = page.locator("pre.logs > div");
    await lines.first().waitFor();
    const before = await lines.count();
    // It writes down that it is told to.
    await stack.api("POST", `devices/${local.id}/commands`, { kind: "restart", component: "telemetry" });
    await page.waitForFunction((least) => document.querySelectorAll("pre.logs > div").length > least, before, { timeout: 10_000 });
    await page.getByRole("button", { name: "Stop" }).click();
    const { items } = await stack.api<{ items: { action: string; detail: { kind?: string } }[] }>("GET", `activity?target=${local.id}&limit=100`);
    expect(items.filter(({ action, detail }) => action === "device.command" && detail.kind === "tail-logs").length).toBe(1);
    expect(faults.said).toEqual([]);
    await context.close();
  });
});
