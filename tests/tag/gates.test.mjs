// Checks that need no page: sizes, types, and that every row of the acceptance list has a test.
// Uses the same programs as CI.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const TESTS = fileURLToPath(new URL("..", import.meta.url));
/** Runs a program of ours with node; it passes when the program does. */
const passes = (...words) => {
  const { status, stdout, stderr } = spawnSync(process.execPath, words, { cwd: TESTS, encoding: "utf8" });
  assert.equal(status, 0, stdout + stderr);
  return stdout;
};

test("A17 tag, add-ons and stub are what their sources give, and within their size gates", () => {
  const said = passes("tag/build.mjs", "--check");
  assert.match(said, /^tag\.min\.js: \d+ B raw, \d+ B gzip \(gate 2210\), \d+ B brotli \(gate 2000\)$/m);
  assert.match(said, /^tag-cookieless\.min\.js: \d+ B raw, \d+ B gzip \(gate 2000\), \d+ B brotli \(gate 1800\)$/m);
  assert.equal(said.match(/gzip \(gate 320\)/g).length, 5);
  assert.match(said, /^tag-stub\.min\.js: \d+ B raw \(gate 550\)/m);
});

test("J89 tag.d.ts, the tag and a page written in TypeScript compile under strict rules", () => {
  passes("node_modules/typescript/bin/tsc", "--project", "tsconfig.json");
});

test("every row of the acceptance list has a test that is named after it", () => {
  const named = new Map();
  for (const folder of ["browser", "tag"])
    for (const file of readdirSync(`${TESTS}/${folder}`).filter((file) => file.endsWith(".test.mjs")))
      for (const [, names] of readFileSync(`${TESTS}/${folder}/${file}`, "utf8").matchAll(/["`]((?:[A-J]\d{1,2} )+|[A-J]\d{1,2}["`])/g))
        for (const [, row] of names.matchAll(/[A-J](\d+)/g)) named.set(Number(row), file);
  const missing = Array.from({ length: 89 }, (_, at) => at + 1).filter((row) => !named.has(row));
  assert.deepEqual(missing, []);
});
