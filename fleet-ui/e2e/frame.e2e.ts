/** What every page has in common, and the pages of activity and settings. */
import { describe, expect, it } from "vitest";
import { contentOf, open, signIn, type Window } from "./browser";
import { browser, stack } from "./stage";
import { eventually } from "./stack";

async function at(path: string, wishes: Parameters<typeof open>[2] = {}): Promise<Window> {
  const window = await open(browser, stack, wishes);
  await window.page.goto(path);
  await signIn(window.page, stack.ownerKey);
  await window.page.getByRole("heading", { level: 1 }).waitFor();
  return window;
}

describe("the frame", () => {
  it("is live, keeps the chosen colours, and leaves the navigation off paper", async () => {
    const { page, context, faults } = await at("/");
    await page.getByText(/Live$/).waitFor();
    await page.getByRole("button", { name: "Signed in" }).click();
    await page.getByText("Dark", { exact: true }).click();
    const scheme = () => page.evaluate(() => document.documentElement.dataset.mantineColorScheme);
    expect(await scheme()).toBe("dark");
    await page.reload();
    await page.getByRole("heading", { level: 1, name: "Overview" }).waitFor();
    expect(await scheme()).toBe("dark");
    await page.emulateMedia({ media: "print" });
    expect(await page.getByRole("navigation", { name: "Main" }).isVisible()).toBe(false);
    expect(await page.getByRole("heading", { level: 1 }).isVisible()).toBe(true);
    expect(faults.said).toEqual([]);
    await context.close();
  });

  it("has its navigation behind a button on a phone", async () => {
    const { page, context, faults } = await at("/", { width: 390 });
    await page.getByRole("button", { name: "Open the navigation" }).click();
    await page.getByRole("navigation", { name: "Main" }).getByRole("link", { name: "Activity" }).click();
    await page.getByRole("heading", { level: 1, name: "Activity" }).waitFor();
    expect(faults.said).toEqual([]);
    await context.close();
  });

  it("signs out, and asks for the key again", async () => {
    const { page, context } = await at("/models");
    await page.getByRole("button", { name: "Signed in" }).click();
    await page.getByRole("menuitem", { name: "Sign out" }).click();
    await page.getByLabel("API key", { exact: true }).waitFor();
    await page.goto("/models");
    await page.getByLabel("API key", { exact: true }).waitFor();
    await context.close();
  });
});

describe("the activity", () => {
  it("is filtered by what stands in the address, leads to what it is about, and is exported", async () => {
    const { page, context, faults } = await at("/activity?action=model.version");
    const table = page.getByRole("table", { name: "Activity" });
    await table.getByText("key:first owner").first().waitFor();
    expect(await table.getByRole("row").count()).toBe(2);
    await page.getByRole("button", { name: "Export" }).click();
    const [file] = await Promise.all([page.waitForEvent("download"), page.getByRole("menuitem", { name: "As CSV" }).click()]);
    const lines = (await contentOf(file)).trim().split("\r\n");
    expect([lines.length, lines[0]]).toEqual([2, "When,Who,Did what,To what,Detail,From"]);
    expect(lines[1]).toContain("model.version,digits@1");
    await page.getByLabel("Did what").fill("");
    await page.getByLabel("Did what").press("Enter");
    await page.waitForURL((url) => url.search === "");
    await page.getByLabel("To what").fill("nothing-like-it");
    await page.getByLabel("To what").press("Enter");
    await page.getByText("Nothing matches").waitFor();
    expect(new URL(page.url()).searchParams.get("target")).toBe("nothing-like-it");
    await page.goBack();
    await page.goto("/activity?action=model.version");
    await table.getByRole("link", { name: "digits@1" }).click();
    await page.getByRole("heading", { level: 1, name: "digits" }).waitFor();
    expect(faults.said).toEqual([]);
    await context.close();
  });
});

describe("the settings", () => {
  it("make a key that is shown once and works, until it is revoked", async () => {
    const { page, context, faults } = await at("/settings/keys");
    await page.getByRole("button", { name: "New key" }).click();
    const making = page.getByRole("dialog", { name: "New API key" });
    await making.getByLabel("Name").fill("ci");
    await making.getByRole("button", { name: "Make" }).click();
    const secret = await making.locator("code").innerText();
    await stack.api("GET", "devices", undefined, secret);
    await making.getByRole("button", { name: "Close" }).last().click();
    const row = page.getByRole("row").filter({ hasText: "ci" });
    await row.getByText("active").waitFor();
    expect(await page.getByText(secret).count()).toBe(0);
    await row.getByRole("button", { name: "Revoke" }).click();
    const asked = page.getByRole("dialog", { name: /Revoke the key/ });
    expect(await asked.getByRole("button", { name: "Revoke" }).isDisabled()).toBe(true);
    await asked.getByRole("textbox").fill("ci");
    await asked.getByRole("button", { name: "Revoke" }).click();
    await row.getByText("revoked").waitFor();
    await eventually("the key is refused", async () => stack.api("GET", "devices", undefined, secret).then(() => false, () => true));
    expect(faults.said).toEqual([]);
    await context.close();
  });

  it("tell until when trust holds and how it is renewed, and hand out the CA's certificate", async () => {
    const { page, context, faults } = await at("/settings/trust");
    await page.getByRole("cell", { name: /aidos trust rotate date/ }).waitFor();
    await page.getByRole("tab", { name: "About" }).click();
    await page.waitForURL("**/settings/about");
    const [file] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name: "ca.pem" }).click()]);
    expect(await contentOf(file)).toContain("BEGIN CERTIFICATE");
    for (const link of await page.getByRole("main").getByRole("link").all()) {
      const answer = await page.request.get(new URL((await link.getAttribute("href"))!, page.url()).href);
      expect(answer.status(), answer.url()).toBe(200);
    }
    expect(faults.said).toEqual([]);
    await context.close();
  });

  it("show a viewer nothing that only others may do", async () => {
    const { page, context } = await open(browser, stack);
    await page.goto("/settings/keys");
    await signIn(page, await stack.key("viewer"));
    await page.getByRole("tab", { name: "About" }).waitFor();
    for (const name of ["API keys", "Join tokens"]) expect(await page.getByRole("tab", { name }).count(), name).toBe(0);
    for (const tab of ["tenants", "trust", "agents"]) {
      await page.goto(`/settings/${tab}`);
      await page.getByRole("tab", { name: "About" }).waitFor();
      for (const name of ["New tenant", "Roll out"]) expect(await page.getByText(name, { exact: true }).count(), name).toBe(0);
    }
    await context.close();
  });
});
