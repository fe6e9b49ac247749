// The npm package `packages/clickstamp`, installed from its tarball into a project of its own. Checks its contents, its
// size, its types, and what its server part gives to Stripe's library. Pages are in pages.test.mjs.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import http from "node:http";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import Stripe from "stripe";
import { createProject, PACKAGE, run } from "./lib/project.mjs";

const ID = "ck_0" + "a".repeat(31);
const OTHER = "ck_1" + "b".repeat(31);
const project = createProject(["typescript", "stripe", "@types/node", "undici-types"]);
const read = (path) => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");

test("the tarball holds the files of the exports, the README and the license, and nothing else", () => {
  const { exports, dependencies } = JSON.parse(read("packages/clickstamp/package.json"));
  assert.equal(dependencies, undefined);
  const entries = Object.values(exports).flatMap((entry) => (typeof entry == "string" ? entry : Object.values(entry)));
  const expected = [...entries.map((path) => path.slice(2)), "tag.d.ts", "README.md", "LICENSE"];
  assert.deepEqual(project.files, expected.sort());
});

test("types, inline script, license and version are those of the server", () => {
  run(process.execPath, [fileURLToPath(new URL("../../packages/sync.mjs", import.meta.url)), "--check"]);
});

test("the code of the README can be bundled: every import exists", async () => {
  const blocks = [...read("packages/clickstamp/README.md").matchAll(/^```jsx?\n([^]*?)^```/gm)].map(([, text]) => text);
  assert.equal(blocks.length, 3);
  for (const text of blocks) {
    // Exported again, so that a name that the code imports and does not use is resolved too.
    const again = [...text.matchAll(/^import (\{[^}]+\}) from "clickstamp/gm)].map(([, names]) => `export ${names};`);
    assert.equal(again.length, 1);
    await project.bundle(text + again[0], { format: "esm", external: ["stripe", "react"] });
  }
});

test("the browser entry has at most 1,000 bytes gzipped, the React entry 300 more", async () => {
  const sizeOf = async (entry) => {
    const { outputFiles } = await build({
      entryPoints: [join(PACKAGE, entry)], bundle: true, minify: true, format: "esm", write: false, external: ["react"],
    });
    return gzipSync(outputFiles[0].contents, { level: 9 }).length;
  };
  const [core, react] = [await sizeOf("index.js"), await sizeOf("react.js")];
  console.log(`index.js: ${core} B gzip (gate 1000), react.js: ${react} B gzip (gate 1300)`);
  assert.ok(core <= 1000 && react <= 1300);
});

test("the types hold for TypeScript, with bundlers and with Node, beside Stripe's own types", () => {
  project.write("shop.ts", `
    import Stripe from "stripe";
    import { IncomingMessage } from "node:http";
    import { clickId, consent, currentClickId, load, onClickId, stampedUrl, track } from "clickstamp";
    import { checkoutFields, clickIdFrom, isClickId, withClickId } from "clickstamp/server";

    load(new URL("https://go.example.com/t/main.js"));
    load(process.env.TAG_URL);
    const known: string | undefined = await clickId();
    const now: string | undefined = currentClickId();
    const url: string = stampedUrl("https://buy.stripe.com/x?client_reference_id=--CLICK-ID--");
    track("Lead", { plan: "pro", seats: 3, trial: false });
    consent(true);
    const stop: () => void = onClickId((id) => void id?.length);
    window.clickstamp?.("ready", (id) => void id.length);
    // @ts-expect-error: objects are no properties
    track("Lead", { nested: {} });
    // @ts-expect-error: consent is a yes or a no
    consent("yes");
    // @ts-expect-error: there may be none
    const certain: string = await clickId();

    const stripe = new Stripe("sk_test_x");
    export const create = (request: Request | IncomingMessage) =>
      stripe.checkout.sessions.create(withClickId({
        mode: "subscription",
        line_items: [{ price: "price_1", quantity: 1 }],
        metadata: { order: "7" },
      }, request));
    export const spread = (cookies: string | null) =>
      stripe.checkout.sessions.create({ mode: "payment", ...checkoutFields(cookies, "payment") });
    // @ts-expect-error: a number is no request
    clickIdFrom(7);
    // @ts-expect-error: Stripe's own types still hold
    void stripe.checkout.sessions.create(withClickId({ line_items: "none" }, ""));
    const value: unknown = url;
    if (isClickId(value)) value.length;
    void [known, now, stop, certain, new Headers() satisfies Parameters<typeof clickIdFrom>[0]];
  `);
  project.write("app.tsx", `
    import { load } from "clickstamp";
    import { clickIdFrom } from "clickstamp/server";
    import { Clickstamp, useClickId } from "clickstamp/react";
    declare global { namespace JSX { type Element = unknown; interface ElementAttributesProperty {} interface IntrinsicElements { p: {} } } }
    export const app = <Clickstamp src={process.env.TAG_URL} consent={true} />;
    export const id: () => string | undefined = useClickId;
    export const inHeaders: string | undefined = clickIdFrom(new Headers());
    load("https://go.example.com/t/main.js");
    // @ts-expect-error: the address is required
    export const wrong = <Clickstamp />;
  `);
  const options = { lib: ["ES2022", "DOM", "DOM.Iterable"], target: "ES2022", strict: true, noEmit: true, skipLibCheck: true, jsx: "preserve", types: ["node"], preserveSymlinks: true };
  for (const [module, moduleResolution, file] of [["ESNext", "Bundler", "shop.ts"], ["ESNext", "Bundler", "app.tsx"], ["NodeNext", "NodeNext", "app.tsx"]]) {
    project.write("tsconfig.json", JSON.stringify({ compilerOptions: { ...options, module, moduleResolution }, files: [file] }));
    run(process.execPath, [join(project.directory, "node_modules/typescript/bin/tsc"), "--project", project.directory]);
  }
});

test("in Node, the browser's functions do nothing and wait for nothing", () => {
  const said = project.node("page.mjs", `
    import { clickId, consent, currentClickId, load, onClickId, stampedUrl, track } from "clickstamp";
    load("https://go.example.com/t/main.js");
    track("Lead");
    consent(false);
    onClickId(() => {})();
    console.log(JSON.stringify([await clickId(Infinity), currentClickId(), stampedUrl("https://a.b/c"), typeof globalThis.clickstamp]));
  `);
  assert.deepEqual(said, [null, null, "https://a.b/c", "undefined"]);
});

test("the server part works in ES modules and in CommonJS", () => {
  const use = `console.log(JSON.stringify(withClickId({ mode: "payment" }, "_ck=${ID}")))`;
  const expected = {
    client_reference_id: ID, metadata: { click_id: ID }, payment_intent_data: { metadata: { click_id: ID } }, mode: "payment",
  };
  assert.deepEqual(project.node("server.mjs", `import { withClickId } from "clickstamp/server"; ${use}`), expected);
  assert.deepEqual(project.node("server.cjs", `const { withClickId } = require("clickstamp/server"); ${use}`), expected);
});

const { checkoutFields, clickIdFrom, isClickId, withClickId } = await import(join(PACKAGE, "server.js"));

test("the click ID is found in every kind of request, and nothing else is taken for one", () => {
  const header = `a=b; _ck=${ID}; _ck_s=x.1`;
  for (const source of [
    header,
    `_ck=${ID}`,
    new Request("https://shop.com/", { headers: { cookie: header } }),
    new Headers({ cookie: header }),
    { headers: { cookie: header }, get: () => "no" },
    { cookie: header },
    { headers: new Map([["cookie", header]]) },
  ])
    assert.equal(clickIdFrom(source), ID);
  for (const source of [
    undefined, null, "", {}, { headers: {} }, new Headers(), `x_ck=${ID}`, `_ck="${ID}"`, `_ck=${ID}'`, `_ck=${ID.toUpperCase()}`,
    "_ck=--CLICK-ID--", "_ck=ck_short", "_ck=ck_" + "a".repeat(38), `_ck=${ID}\n`, `a=_ck=${ID}`, { headers: { cookie: [] } },
  ])
    assert.equal(clickIdFrom(source), undefined);
  assert.equal(clickIdFrom(`_ck=${OTHER}; _ck=${ID}`), ID, "the last one counts");
  assert.equal(clickIdFrom(`_ck=${ID}; _ck=forged`), ID, "the last valid one");
  assert.deepEqual([ID, `${ID}\n`, "", undefined, [ID]].map(isClickId), [true, false, false, false, false]);
});

test("the fields follow the session's mode and are never blank", () => {
  const known = { client_reference_id: ID, metadata: { click_id: ID } };
  const inside = { metadata: { click_id: ID } };
  assert.deepEqual(checkoutFields(ID, "subscription"), { ...known, subscription_data: inside });
  assert.deepEqual(checkoutFields(`_ck=${ID}`, "payment"), { ...known, payment_intent_data: inside });
  for (const mode of ["setup", undefined, null, "constructor"]) assert.deepEqual(checkoutFields(ID, mode), known);
  for (const source of [undefined, null, "", "_ck=", "--CLICK-ID--", `${ID}\n`]) assert.deepEqual(checkoutFields(source, "payment"), {});
});

test("parameters of your own are kept, and a blank reference is removed", () => {
  const own = {
    mode: "subscription", client_reference_id: "order-7", metadata: { order: "7" },
    subscription_data: { trial_period_days: 7, metadata: { plan: "pro" } },
  };
  const before = structuredClone(own);
  assert.deepEqual(withClickId(own, ID), {
    mode: "subscription", client_reference_id: "order-7", metadata: { order: "7", click_id: ID },
    subscription_data: { trial_period_days: 7, metadata: { plan: "pro", click_id: ID } },
  });
  assert.deepEqual(withClickId(own, ""), own);
  assert.deepEqual(own, before, "the parameters themselves are not changed");
  assert.deepEqual(withClickId({ mode: "payment", client_reference_id: "" }, null), { mode: "payment" });
  assert.equal(withClickId({ mode: "payment", client_reference_id: undefined }, ID).client_reference_id, ID);
});

test("Stripe's library sends the click ID in all three places", async () => {
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
    const stripe = new Stripe("sk_test_x", { host: "127.0.0.1", port: api.address().port, protocol: "http", telemetry: false });
    const line_items = [{ price: "price_1", quantity: 1 }];
    for (const [mode, place] of [["subscription", "subscription_data"], ["payment", "payment_intent_data"]])
      for (const id of [ID, undefined]) {
        const request = new Request("https://shop.com/", { headers: id ? { cookie: `_ck=${id}` } : {} });
        await stripe.checkout.sessions.create(withClickId({ mode, line_items }, request));
        const sent = bodies.pop();
        const places = ["client_reference_id", "metadata[click_id]", `${place}[metadata][click_id]`];
        assert.deepEqual(places.map((name) => sent.get(name) ?? undefined), places.map(() => id), `${mode} ${id}`);
      }
  } finally {
    api.close();
    api.closeAllConnections();
  }
});
