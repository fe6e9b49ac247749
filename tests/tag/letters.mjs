// Looks for an order of letters with which the minified tag compresses better: node tag/letters.mjs [seconds] [seed]
// Prints the best order, for LETTERS in lib/minify.mjs. Run it after a change of the tag that has to be small.

import { gzipSync } from "node:zlib";
import { LETTERS, minified, renamed } from "./lib/minify.mjs";

const seconds = Number(process.argv[2] ?? 60);
let seed = Number(process.argv[3] ?? 1);
const random = (below) => (seed = (seed * 48271) % 2147483647) % below;
const CALL = "(CONFIG)";
const text = (await minified("tag", CALL, { STORES: true }, "")) + CALL;
const sizeWith = async (letters) => gzipSync((await renamed(text, letters)).slice(0, -`${CALL};`.length), { level: 9 }).length;

let current = LETTERS;
let size = await sizeWith(current);
let best = [size, current];
console.log(`${size} B now`);
const started = Date.now();
for (let spent = 0; spent < 1; spent = (Date.now() - started) / 1000 / seconds) {
  const letters = [...current];
  // The first thirty are used most.
  for (let swaps = 1 + random(3); swaps--; ) {
    const [a, b] = [random(32), random(letters.length)];
    [letters[a], letters[b]] = [letters[b], letters[a]];
  }
  const tried = await sizeWith(letters.join(""));
  // Now and then a worse one is taken, less and less often, or the search would end at the next hill.
  if (tried <= size || random(1000) / 1000 < Math.exp((size - tried) / (1.2 * (1 - spent)))) [size, current] = [tried, letters.join("")];
  if (size < best[0]) best = [size, current];
}
console.log(`${best[0]} B with ${best[1]}`);
