/** Browser windows of the journeys: each is a person of their own. What a page complains of is kept. */
import { text } from "node:stream/consumers";
import AxeBuilder from "@axe-core/playwright";
import { chromium, type Browser, type BrowserContext, type Download, type Page } from "playwright-core";
import { expect, inject } from "vitest";
import type { Stack } from "./stack";

/** Most of what is waited for takes a second; a busy machine takes longer. */
const WAIT_MS = 30_000;

export const launch = (): Promise<Browser> => chromium.connect(inject("chromium"));

export interface Window {
  readonly page: Page;
  readonly context: BrowserContext;
  /** What the page threw, or what its policy kept it from. */
  readonly faults: { readonly said: readonly string[] };
}

interface Wishes {
  readonly scheme?: "light" | "dark";
  readonly width?: number;
}

export async function open(browser: Browser, stack: Stack, { scheme = "light", width = 1_280 }: Wishes = {}): Promise<Window> {
  const context = await browser.newContext({ baseURL: stack.url, viewport: { width, height: 800 }, colorScheme: scheme, reducedMotion: "reduce", acceptDownloads: true });
  context.setDefaultTimeout(WAIT_MS);
  const page = await context.newPage();
  const said: string[] = [];
  page.on("pageerror", (error) => said.push(String(error)));
  // That a request was refused is looked at where it is expected.
  page.on("console", (message) => message.type() === "error" && !message.text().startsWith("Failed to load resource") && said.push(message.text()));
  return { page, context, faults: { said } };
}

export async function signIn(page: Page, key: string): Promise<void> {
  const field = page.getByLabel("API key", { exact: true });
  await field.fill(key);
  await page.getByRole("button", { name: "Sign in" }).click();
  await field.waitFor({ state: "detached" });
}

/** What stands in a file that a page gave. */
export const contentOf = async (file: Download): Promise<string> => text(await file.createReadStream());

/** WCAG 2.2 AA as far as a program can tell. */
export async function accessible(page: Page): Promise<void> {
  const { violations } = await new AxeBuilder({ page }).analyze();
  const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 160)).join("\n  ")}`);
  expect(found, page.url()).toEqual([]);
}

/** Nothing of the page lies beyond the right edge of the window. */
export async function fits(page: Page): Promise<void> {
  const beyond = await page.evaluate(() => {
    const { scrollWidth, clientWidth } = document.documentElement;
    if (scrollWidth <= clientWidth) return [];
    const wide = [...document.querySelectorAll("main *")].filter((element) => element.getBoundingClientRect().right > clientWidth + 1);
    return [`${scrollWidth} px in ${clientWidth} px`, ...wide.slice(0, 3).map((element) => element.outerHTML.slice(0, 120))];
  });
  expect(beyond, page.url()).toEqual([]);
}
