// Writes a gzip beside each built file that shrinks by it, so that no request waits for compression.

import { readFileSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { extname, join } from "node:path";
import { constants, gzipSync } from "node:zlib";

const TEXT = new Set([".js", ".css", ".svg", ".json", ".map"]);

function compress(folder) {
  for (const name of readdirSync(folder)) {
    const path = join(folder, name);
    if (statSync(path).isDirectory()) {
      compress(path);
    } else if (TEXT.has(extname(name))) {
      const bytes = readFileSync(path);
      const packed = gzipSync(bytes, { level: constants.Z_BEST_COMPRESSION });
      if (packed.length < bytes.length) writeFileSync(`${path}.gz`, packed);
    }
  }
}

compress(process.argv[2]);
