// A customer's project with the npm package in it. Takes nothing; returns a directory in which the package was installed
// from its tarball, or copied, without the network, beside packages of tests/node_modules. Guarantees that the directory is
// removed after the tests of the file.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after } from "node:test";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

export const PACKAGE = fileURLToPath(new URL("../../../packages/clickstamp", import.meta.url));
export const MODULES = realpathSync(fileURLToPath(new URL("../../node_modules", import.meta.url)));

/** Runs a program to its end and returns its output; fails with what it printed. */
export const run = (command, args, options) => {
  const ran = spawnSync(command, args, { encoding: "utf8", ...options });
  assert.equal(ran.status, 0, `${command} ${args.join(" ")}\n${ran.stdout}${ran.stderr}${ran.error ?? ""}`);
  return ran.stdout;
};

/** Packs the package into a directory; returns what npm says of the tarball. */
export const pack = (directory) =>
  JSON.parse(run("npm", ["pack", "--json", "--pack-destination", directory], { cwd: PACKAGE }))[0];

/** Puts a packed package into a directory's node_modules; returns the paths of its files. */
const install = (directory) => {
  const { filename, files } = pack(directory);
  const quiet = ["--offline", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"];
  run("npm", ["install", ...quiet, join(directory, filename)], { cwd: directory });
  return files.map(({ path }) => path).sort();
};

/** Creates the project, with these packages of tests/node_modules. `isCopied`: without npm, which takes two seconds. */
export const createProject = (packages = [], { isCopied } = {}) => {
  const directory = mkdtempSync(join(tmpdir(), "clickstamp-project-"));
  after(() => rmSync(directory, { recursive: true, force: true }));
  writeFileSync(join(directory, "package.json"), '{ "name": "shop", "private": true, "type": "module" }');
  let files;
  if (isCopied) cpSync(PACKAGE, join(directory, "node_modules/clickstamp"), { recursive: true });
  else files = install(directory);
  for (const name of packages) {
    const link = join(directory, "node_modules", name);
    mkdirSync(dirname(link), { recursive: true });
    symlinkSync(join(MODULES, name), link);
  }
  return {
    directory,
    /** What the tarball contained. */
    files,
    /** Writes a file of the project. */
    write: (name, text) => writeFileSync(join(directory, name), text),
    /** Runs a script of the project in Node and returns what it prints as JSON. */
    node: (name, text) => {
      writeFileSync(join(directory, name), text);
      return JSON.parse(run(process.execPath, ["--no-warnings", name], { cwd: directory }));
    },
    /** One script for the browser out of this text and the packages that it imports. */
    bundle: async (contents, options) => {
      const { outputFiles } = await build({
        stdin: { contents, loader: "jsx", resolveDir: directory },
        bundle: true,
        write: false,
        minify: true,
        logLevel: "error",
        jsx: "automatic",
        nodePaths: [join(directory, "node_modules"), MODULES],
        define: { "process.env.NODE_ENV": '"production"' },
        ...options,
      });
      return outputFiles[0].text;
    },
  };
};
