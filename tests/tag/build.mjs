// Minifies the browser tag.
// In: static/tag.js. Out: static/tag.min.js; with --check nothing is written.
// Promise: the committed file is exactly what the pinned minifier makes of the source, and within the size gate; else exit code 1.

import { readFileSync, writeFileSync } from "node:fs";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import { minify } from "terser";

const SOURCE = new URL("../../static/tag.js", import.meta.url);
const TARGET = new URL("../../static/tag.min.js", import.meta.url);

/** Bytes, for the tag with all its features. An advertiser's page should not load more for this than for a page counter. */
const GATE = { gzip: 1950, brotli: 1750 };

/** The server appends "(config)". The minifier has to see the call too: to it, a function nobody calls is nothing. */
const CALL = "(CONFIG)";

const OPTIONS = {
  ecma: 2020,
  toplevel: true,
  compress: { ecma: 2020, passes: 4, negate_iife: false, unsafe_arrows: true, booleans_as_integers: true },
  format: { ecma: 2020, semicolons: true },
};

const { code } = await minify(readFileSync(SOURCE, "utf8") + CALL, OPTIONS);
const ending = `${CALL};`;
if (!code?.startsWith("(") || !code.endsWith(ending)) throw new Error(`not one function expression: ${code}`);
const minified = code.slice(0, -ending.length);

const size = {
  raw: minified.length,
  gzip: gzipSync(minified, { level: 9 }).length,
  brotli: brotliCompressSync(minified, { params: { [constants.BROTLI_PARAM_QUALITY]: 11 } }).length,
};
console.log(`tag.min.js: ${size.raw} B raw, ${size.gzip} B gzip-9 (gate ${GATE.gzip}), ${size.brotli} B brotli-11 (gate ${GATE.brotli})`);

if (size.gzip > GATE.gzip || size.brotli > GATE.brotli) {
  console.error("tag.min.js is above the size gate");
  process.exitCode = 1;
}
if (!process.argv.includes("--check")) writeFileSync(TARGET, minified);
else if (readFileSync(TARGET, "utf8") !== minified) {
  console.error("static/tag.min.js is not what static/tag.js gives: run `npm run build` in tests/");
  process.exitCode = 1;
}
