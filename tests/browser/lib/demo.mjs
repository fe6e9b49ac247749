// The real binary's demo: a server whose eight weeks of history show every state a page can be in.
// In: nothing. Out: its address, its account, its API.
// Promise: it listens on a free port, no setting of the shell reaches it, and its directory goes with it.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

const BINARY = process.env.CLICKSTAMP_BINARY || fileURLToPath(new URL("../../../target/debug/clickstamp", import.meta.url));

/** Starts the demo and waits until it has printed its walk-through. */
export const startDemo = async () => {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("CLICKSTAMP_")));
  const child = spawn(BINARY, ["demo", "--listen", "127.0.0.1:0"], { env, stdio: ["ignore", "pipe", "ignore"] });
  const exited = once(child, "exit");
  let said = "";
  await new Promise((resolve, reject) => {
    exited.then(() => reject(new Error(`the demo ended:\n${said}`)), reject);
    child.stdout.on("data", (text) => {
      said += text;
      if (said.includes("Ctrl-C")) resolve();
    });
  });
  const told = (pattern) => {
    const found = pattern.exec(said);
    if (found) return found[1];
    child.kill("SIGINT"); // A child that runs on would keep the test from ending.
    throw new Error(`the demo's walk-through lacks ${pattern}:\n${said}`);
  };
  const url = told(/(http:\S+)\/api\/v1/);
  const token = told(/Bearer (\w+)/);
  return {
    url,
    email: told(/email +(\S+)/),
    password: told(/password +(\S+)/),
    /** What the API answers. */
    ask: async (path) => {
      const response = await fetch(`${url}/api/v1${path}`, { headers: { authorization: `Bearer ${token}` } });
      if (!response.ok) throw new Error(`${path}: ${response.status}`);
      return response.json();
    },
    stop: async () => {
      child.kill("SIGINT");
      await exited;
    },
  };
};
