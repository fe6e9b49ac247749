// The pinned minifier, as the tag is built with it.
// Takes the name of a script in static/ and the letters for its names; returns the minified text.
// Guarantees the same text for the same source, on every machine.

import { readFileSync } from "node:fs";
import { minify } from "terser";

/**
 * The letters in the order in which the minifier gives them to names. The order is an accident that compresses well:
 * `node tag/letters.mjs` looks for a better one. It saves ten to fifteen bytes.
 */
export const LETTERS = "etoacCiwmRplsDdSUgkF$ynf_hTbrvuWHxLBMVOQKPYjZXqIEJzGNA";

/** Names of one letter, then of two; without letters, the source's own. */
const namesFrom = (letters) =>
  letters && {
    nth_identifier: {
      get: (at) => (at < letters.length ? letters[at] : letters[Math.floor(at / letters.length) - 1] + letters[at % letters.length]),
    },
  };
const FORMAT = { ecma: 2020, semicolons: true, ascii_only: true };

/** A minified script with names of these letters. */
export const renamed = async (text, letters) =>
  (await minify(text, { ecma: 2020, toplevel: true, mangle: namesFrom(letters), compress: false, format: FORMAT })).code;

const COMPRESS = {
  ecma: 2020, passes: 4, negate_iife: false, keep_fargs: false, unsafe_arrows: true, booleans_as_integers: true,
};
/** A call of a call must not be merged into one: the add-on and the tag are put together by the server. */
const ADD_ON_COMPRESS = { ...COMPRESS, inline: 0, reduce_funcs: false };

/**
 * A script with the call that the server appends to it, minified. The call is there because the minifier has to see it
 * too: to it, a function nobody calls is nothing. `constants` are put in first. One keyword for all declarations
 * compresses better than two.
 */
export const minified = async (name, call, constants, letters = LETTERS) => {
  const source = readFileSync(new URL(`../../../static/${name}.js`, import.meta.url), "utf8").trimEnd();
  const { code } = await minify(source.replace(/\bconst /g, "let ") + call, {
    ecma: 2020,
    toplevel: true,
    mangle: namesFrom(letters),
    compress: { ...(call.startsWith("(TAG)") ? ADD_ON_COMPRESS : COMPRESS), global_defs: constants },
    format: FORMAT,
  });
  const ending = `${call};`;
  if (!code?.startsWith("(") || !code.endsWith(ending)) throw new Error(`${name}: not one expression: ${code}`);
  return code.slice(0, -ending.length);
};
