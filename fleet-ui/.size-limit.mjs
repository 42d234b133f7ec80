// What a browser loads before the overview is usable: the entry, the overview's chunk, and everything that they import statically.

import { readFileSync } from "node:fs";

const manifest = JSON.parse(readFileSync("dist/.vite/manifest.json", "utf8"));
const ROOTS = ["index.html", "app/pages/overview/Overview.tsx"];

const files = new Set();
function load(name) {
  const chunk = manifest[name];
  if (!chunk) throw new Error(`${name} is not in the manifest: name what the overview loads anew in .size-limit.mjs`);
  if (files.has(chunk.file)) return;
  files.add(chunk.file);
  chunk.imports?.forEach(load);
}
ROOTS.forEach(load);

export default [
  { name: "scripts of the overview", path: [...files].filter((file) => file.endsWith(".js")).map((file) => `dist/${file}`), limit: "250 kB", gzip: true },
];
