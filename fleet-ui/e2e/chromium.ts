/** Starts the one Chromium of all journeys before them, and ends it after them. */
import { chromium } from "playwright-core";
import type { TestProject } from "vitest/node";

declare module "vitest" {
  interface ProvidedContext {
    chromium: string;
  }
}

/** Debian's browser, or another by `AIDOS_CHROMIUM`. */
export const EXECUTABLE = process.env.AIDOS_CHROMIUM ?? "/usr/bin/chromium";
export const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-quic", "--no-first-run"];

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const server = await chromium.launchServer({ executablePath: EXECUTABLE, args: FLAGS });
  project.provide("chromium", server.wsEndpoint());
  return () => server.close();
}
