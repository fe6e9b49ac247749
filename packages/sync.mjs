#!/usr/bin/env node
// Copies into packages/ what has its source elsewhere: the tag's types, its inline script, the license, the version.
// Takes nothing; writes the files that differ. With --check, it writes nothing and fails with their names.

import { readFileSync, writeFileSync } from "node:fs";

const path = (name) => new URL(`../${name}`, import.meta.url);
const read = (name) => readFileSync(path(name), "utf8");
const isCheck = process.argv.includes("--check");
const version = /^version = "(.*)"$/m.exec(read("Cargo.toml"))[1];
const stub = read("static/tag-stub.min.js").trim();

const plugin = read("packages/wordpress/clickstamp.php")
  .replace(/(\* Version: +)\S+/, (_, before) => before + version)
  .replace(/(<<<'JS'\n)[^]*?^JS;/m, (_, before) => `${before}${stub}\nJS;`);
const files = {
  "packages/clickstamp/tag.d.ts": read("static/tag.d.ts"),
  "packages/clickstamp/LICENSE": read("LICENSE"),
  "packages/clickstamp/package.json": read("packages/clickstamp/package.json").replace(/("version": ")[^"]+/, (_, before) => before + version),
  "packages/wordpress/clickstamp.php": plugin,
  "packages/wordpress/readme.txt": read("packages/wordpress/readme.txt").replace(/(Stable tag: ).+/, (_, before) => before + version),
};

const differing = Object.entries(files).filter(([name, text]) => read(name) !== text);
for (const [name, text] of differing) {
  if (!isCheck) writeFileSync(path(name), text);
  console.log(isCheck ? `${name} differs from its source: run packages/sync.mjs` : `${name} written`);
}
if (isCheck && differing.length) process.exit(1);
