// Minifies the browser tag, its add-ons and the race stub: static/tag*.js to static/tag*.min.js.
// With --check, it writes nothing. Exits with 1 unless the committed files are exactly what the pinned minifier
// produces and within the size limits.

import { readFileSync, writeFileSync } from "node:fs";
import { brotliCompressSync, constants as zlib, gzipSync } from "node:zlib";
import { minified } from "./lib/minify.mjs";

/** Bytes, for the tag with all its features. An advertiser's page should not load more for this than for a page counter. */
const CORE = { gzip: 2210, brotli: 2000 };
/** The same tag without all that keeps and finds again. */
const COOKIELESS = { gzip: 2000, brotli: 1800 };
const ADD_ON = { gzip: 320 };
/** Loaded on demand by the one who installs the tag. */
const DEBUG = {};
/** The stub is inline in the page, which is not compressed here. */
const STUB = { raw: 550 };

/**
 * Every script: its gate, what is appended to it while it is minified, and its constants. The server appends
 * "(config)" to the tag, and "((tag))(config)" to an add-on.
 */
const SCRIPTS = {
  tag: [CORE, "(CONFIG)", { STORES: true }],
  "tag-cookieless": [COOKIELESS, "(CONFIG)", { STORES: false }],
  "tag-auto": [ADD_ON, "(TAG)(CONFIG)"],
  "tag-linked": [ADD_ON, "(TAG)(CONFIG)"],
  "tag-anytrack": [ADD_ON, "(TAG)(CONFIG)"],
  "tag-consent-google": [ADD_ON, "(TAG)(CONFIG)"],
  "tag-consent-tcf": [ADD_ON, "(TAG)(CONFIG)"],
  "tag-debug": [DEBUG, "(TAG)(CONFIG)"],
  "tag-stub": [STUB, ""],
};

/** The scripts that are made of another one's source. */
const SOURCES = { "tag-cookieless": "tag" };

const sizes = (text) => ({
  raw: text.length,
  gzip: gzipSync(text, { level: 9 }).length,
  brotli: brotliCompressSync(text, { params: { [zlib.BROTLI_PARAM_QUALITY]: 11 } }).length,
});

const fail = (why) => {
  console.error(why);
  process.exitCode = 1;
};

const isCheck = process.argv.includes("--check");
for (const [name, [gate, call, constants]] of Object.entries(SCRIPTS)) {
  const source = SOURCES[name] ?? name;
  const target = new URL(`../../static/${name}.min.js`, import.meta.url);
  const text = await minified(source, call, constants);
  const size = sizes(text);
  const told = Object.entries(size).map(([unit, bytes]) => `${bytes} B ${unit}${gate[unit] ? ` (gate ${gate[unit]})` : ""}`);
  console.log(`${name}.min.js: ${told.join(", ")}`);
  if (Object.entries(gate).some(([unit, most]) => size[unit] > most)) fail(`${name}.min.js is above its size gate`);
  if (!isCheck) writeFileSync(target, text);
  else if (readFileSync(target, "utf8") !== text)
    fail(`static/${name}.min.js is not what static/${source}.js gives: run \`npm run build\` in tests/`);
}
