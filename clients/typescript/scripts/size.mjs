// Fails when the client for pages, minified, has more than 11 kB (11,000 bytes) with gzip -9.

import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const LIMIT = 11_000;
const file = new URL("../dist/page/hauyna.js", import.meta.url);
const bytes = readFileSync(file);
const packed = gzipSync(bytes, { level: 9 }).length;
console.log(`hauyna.js: ${bytes.length} bytes, ${packed} with gzip (limit ${LIMIT})`);
if (packed > LIMIT) process.exit(1);
