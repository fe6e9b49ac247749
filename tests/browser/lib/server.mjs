// The real binary, one per test file.
// In: settings. Out: a running server on a free port, with a data directory of its own.
// Promise: no setting of the shell reaches it, it stops in order, and nothing of it stays behind.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const BINARY = process.env.CLICKSTAMP_BINARY || fileURLToPath(new URL("../../../target/debug/clickstamp", import.meta.url));

/** Starts the binary and waits for the line that names its address. */
export const startServer = async (settings = {}) => {
  const directory = await mkdtemp(join(tmpdir(), "clickstamp-browser-"));
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith("CLICKSTAMP_"));
  const env = { ...Object.fromEntries(inherited), CLICKSTAMP_LISTEN: "127.0.0.1:0", CLICKSTAMP_DATA_DIR: directory, ...settings };
  const child = spawn(BINARY, { env, stdio: ["ignore", "ignore", "pipe"] });
  const exited = once(child, "exit");
  const said = [];
  const waiting = new Set();
  // Its log is read to the end: a full pipe would hold the server up.
  createInterface({ input: child.stderr }).on("line", (line) => {
    said.push(line);
    for (const look of waiting) look();
  });
  /** Waits until the log says something like this, and gives the match; fails when the server ends first. */
  const heard = (pattern) =>
    new Promise((resolve, reject) => {
      const look = () => {
        const match = said.map((line) => pattern.exec(line)).find(Boolean);
        if (match) resolve(match), waiting.delete(look);
      };
      waiting.add(look);
      exited.then(() => reject(new Error(`the server ended:\n${said.join("\n")}`)), reject);
      look();
    });
  const [, url] = await heard(/listening on (http:\S+)/);
  const stop = async () => {
    child.kill("SIGTERM");
    await exited;
    await rm(directory, { recursive: true });
  };
  return { url, heard, stop };
};
