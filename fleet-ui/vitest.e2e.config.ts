/// <reference types="vitest/config" />
import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

/** Journeys in a real browser against real processes: one file after the other, for both cores are busy with what is looked at. */
export default defineConfig({
  resolve: { alias: { "~": fileURLToPath(new URL("./app", import.meta.url)) } },
  test: {
    environment: "node",
    include: process.env.AIDOS_SCREENSHOTS ? ["e2e/screenshots.ts"] : ["e2e/**/*.e2e.ts"],
    globalSetup: ["e2e/chromium.ts"],
    fileParallelism: false,
    testTimeout: 180_000,
    hookTimeout: 120_000,
  },
});
