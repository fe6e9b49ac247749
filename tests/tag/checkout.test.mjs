// The recipes of docs/checkout-sessions.md, run as they are printed: the Node code with Stripe's own library against a
// pretend API, the Python code with a pretend library.
// Checks that a click ID arrives in all three places, and that without one, or with something else, none is sent.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import Stripe from "stripe";

const PAGE = readFileSync(new URL("../../docs/checkout-sessions.md", import.meta.url), "utf8");
const printed = (language) => new RegExp(`\`\`\`${language}\\n([^]*?)\`\`\``).exec(PAGE)[1];

const ID = "ck_0" + "a".repeat(31);
/** Values of the cookie `_ck`, and whether they are a click ID. */
const COOKIES = [
  [ID, true],
  ["", false],
  ["--CLICK-ID--", false],
  ["ck_short", false],
  ["ck_" + "a".repeat(38), false],
  [ID + "\n", false],
  [ID + "'", false],
];
const PLACES = ["client_reference_id", "metadata[click_id]", "subscription_data[metadata][click_id]"];

test("the Node recipe passes the click ID to Stripe's library, and nothing else", async () => {
  const bodies = [];
  const api = http.createServer((request, response) => {
    let body = "";
    request.on("data", (piece) => (body += piece));
    request.on("end", () => {
      bodies.push(new URLSearchParams(body));
      response.writeHead(200, { "content-type": "application/json" }).end('{"id":"cs_1","object":"checkout.session"}');
    });
  });
  await new Promise((listening) => api.listen(0, "127.0.0.1", listening));
  try {
    const recipe = await import(`data:text/javascript,${encodeURIComponent(printed("js"))}`);
    const stripe = new Stripe("sk_test_x", { host: "127.0.0.1", port: api.address().port, protocol: "http", telemetry: false });
    const headers = COOKIES.flatMap(([value, isId]) => [[`_ck=${value}`, isId], [`a=b; _ck=${value}; c=d`, isId]]);
    for (const [cookies, isId] of [...headers, [undefined, false], [null, false], [`x_ck=${ID}`, false]]) {
      assert.equal((await recipe.createCheckout(stripe, cookies, "price_1")).id, "cs_1");
      const sent = bodies.pop();
      assert.deepEqual(PLACES.map((name) => sent.get(name)), PLACES.map(() => (isId ? ID : null)), cookies);
      assert.equal(sent.get("line_items[0][price]"), "price_1");
    }
  } finally {
    api.close();
    api.closeAllConnections();
  }
});

test("the Python recipe does the same", () => {
  const directory = mkdtempSync(join(tmpdir(), "recipe-"));
  try {
    writeFileSync(join(directory, "recipe.py"), printed("python"));
    writeFileSync(
      join(directory, "stripe.py"),
      "import types\nclass Session:\n    create = staticmethod(lambda **sent: sent)\ncheckout = types.SimpleNamespace(Session=Session)\n",
    );
    const script = `import json, sys, recipe
print(json.dumps([recipe.create_checkout(cookies, "price_1") for cookies in json.load(sys.stdin)]))`;
    const cookies = [...COOKIES, [undefined, false]];
    const input = JSON.stringify(cookies.map(([value]) => (value === undefined ? {} : { _ck: value })));
    const ran = spawnSync("python3", ["-c", script], { cwd: directory, input, encoding: "utf8" });
    assert.equal(ran.status, 0, ran.stderr);
    JSON.parse(ran.stdout).forEach((sent, at) => {
      const found = [sent.client_reference_id, sent.metadata?.click_id, sent.subscription_data?.metadata.click_id];
      assert.deepEqual(found, found.map(() => (cookies[at][1] ? ID : undefined)), cookies[at][0]);
      assert.equal(sent.line_items[0].price, "price_1");
    });
  } finally {
    rmSync(directory, { recursive: true });
  }
});
