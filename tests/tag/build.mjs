// Minifies the browser tag, its add-ons and the race stub: static/tag*.js to static/tag*.min.js.
// With --check, it writes nothing. Exits with 1 unless the committed files are exactly what the pinned minifier
// produces and within the size limits.

import { readFileSync, writeFileSync } from "node:fs";
import { brotliCompressSync, constants as zlib, gzipSync } from "node:zlib";
import { minify } from "terser";

/** Bytes, for the tag with all its features. An advertiser's page should not load more for this than for a page counter. */
const CORE = { gzip: 2260, brotli: 2050 };
/** The same tag without all that keeps and finds again. */
const COOKIELESS = { gzip: 2050, brotli: 1850 };
const ADD_ON = { gzip: 320 };
/** Loaded on demand by the one who installs the tag. */
const DEBUG = {};
/** The stub is inline in the page, which is not compressed here. */
const STUB = { raw: 550 };

/**
 * Every script: its gate, and what is appended to it while it is minified, and its constants. The server appends "(config)" to the tag, and
 * "((tag))(config)" to an add-on. The minifier has to see the call too: to it, a function nobody calls is nothing.
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

const OPTIONS = {
  ecma: 2020,
  toplevel: true,
  compress: { ecma: 2020, passes: 4, negate_iife: false, keep_fargs: false, unsafe_arrows: true, booleans_as_integers: true },
  format: { ecma: 2020, semicolons: true, ascii_only: true },
};
/** The scripts that are made of another one's source. */
const SOURCES = { "tag-cookieless": "tag" };
/** A call of a call must not be merged into one: the add-on and the tag are put together by the server. */
const ADD_ON_OPTIONS = { ...OPTIONS, compress: { ...OPTIONS.compress, inline: 0, reduce_funcs: false } };

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
  const source = new URL(`../../static/${SOURCES[name] ?? name}.js`, import.meta.url);
  const target = new URL(`../../static/${name}.min.js`, import.meta.url);
  const { compress, ...options } = call.startsWith("(TAG)") ? ADD_ON_OPTIONS : OPTIONS;
  const { code } = await minify(readFileSync(source, "utf8").trimEnd() + call, {
    ...options,
    compress: { ...compress, global_defs: constants },
  });
  const ending = `${call};`;
  if (!code?.startsWith("(") || !code.endsWith(ending)) throw new Error(`${name}: not one expression: ${code}`);
  const minified = code.slice(0, -ending.length);
  const size = sizes(minified);
  const told = Object.entries(size).map(([unit, bytes]) => `${bytes} B ${unit}${gate[unit] ? ` (gate ${gate[unit]})` : ""}`);
  console.log(`${name}.min.js: ${told.join(", ")}`);
  if (Object.entries(gate).some(([unit, most]) => size[unit] > most)) fail(`${name}.min.js is above its size gate`);
  if (!isCheck) writeFileSync(target, minified);
  else if (readFileSync(target, "utf8") !== minified)
    fail(`static/${name}.min.js is not what static/${SOURCES[name] ?? name}.js gives: run \`npm run build\` in tests/`);
}
