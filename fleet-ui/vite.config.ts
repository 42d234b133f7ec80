/// <reference types="vitest/config" />
import react from "@vitejs/plugin-react";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

/** Where `npm run dev` finds a control plane. */
const plane = process.env.AIDOS_URL ?? "http://127.0.0.1:7070";

export default defineConfig({
  plugins: [react()],
  resolve: { alias: { "~": fileURLToPath(new URL("./app", import.meta.url)) } },
  build: {
    target: "es2023",
    // A page that cannot inline anything is one that a strict content security policy fits.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // Which chunk belongs to which page, for `.size-limit.mjs`.
    manifest: true,
  },
  server: { proxy: { "/api": plane, "/docs": plane } },
  test: { environment: "jsdom", include: ["app/**/*.test.{ts,tsx}"] },
});
