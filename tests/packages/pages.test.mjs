// The npm package on real pages, from the tarball, in front of the real server. In: pages that load the tag with it, with
// and without React. Out: visits, stamped links, and a payment matched through a Checkout Session.
// Promise: one request for the tag and one visit, the page's load event does not wait (in Firefox, which lets it wait for
// every script, the page is ready before), and the console stays empty.

import assert from "node:assert/strict";
import { isFirefox } from "../browser/lib/browser.mjs";
import { createProject } from "./lib/project.mjs";
import { API_TOKEN, CLICK_ID, cookie, goto, openReady, postsSoFar, ready, referenceOf, scene, SECRET, server } from "../browser/lib/scene.mjs";
import { askUntil, paidWith, sendWebhook } from "../browser/lib/stripe.mjs";

const project = createProject();
/** A page's script: the package as the global `shop`. */
const useTag = (web, url = web.url("go.shop", "/t/main.js")) =>
  project.bundle(`import * as shop from "clickstamp"; window.shop = shop; shop.load(${JSON.stringify(url)}); shop.load(${JSON.stringify(url && `${url}#again`)})`, { format: "iife" });

scene("load() twice is one tag and one visit; the load event does not wait for the server", async ({ web, page }) => {
  let release;
  web.holdScript = new Promise((resolve) => (release = resolve));
  web.file("/app.js", await useTag(web));
  web.page("/", `<a href="${web.pay()}">Buy</a><script src="/app.js"></script>`);
  await page.goto(web.shop("/?gclid=one"), { waitUntil: isFirefox ? "domcontentloaded" : "load" });
  assert.equal(await page.evaluate(() => shop.currentClickId()), undefined);
  assert.equal(await page.evaluate(() => shop.stampedUrl("https://a.b/?r=--CLICK-ID--")), "https://a.b/?r=--CLICK-ID--");
  await page.evaluate(() => void (window.waiting = shop.clickId(Infinity)));
  release();
  const id = await page.evaluate(() => window.waiting);
  assert.match(id, CLICK_ID);
  assert.deepEqual(await page.evaluate(async () => [await shop.clickId(), shop.currentClickId(), clickstamp.id]), [id, id, id]);
  assert.equal(await page.evaluate(() => shop.stampedUrl("https://a.b/?r=--CLICK-ID--")), `https://a.b/?r=${id}`);
  assert.equal((await postsSoFar({ web, page })).length, 1);
  assert.equal(web.tagRequests.filter(({ method }) => method === "GET").length, 1);
  assert.equal(await cookie(page, "_ck"), id);
  await page.click("a");
  assert.equal(referenceOf(await web.payments.next()), id);
});

scene("beside the tag's own line, load() asks for nothing more", async ({ web, page }) => {
  web.file("/app.js", await useTag(web));
  web.page("/", `${web.tag}<script src="/app.js"></script>`);
  const id = await openReady(page, web.shop("/?gclid=one"));
  assert.equal(await page.evaluate(() => shop.clickId()), id);
  await postsSoFar({ web, page });
  assert.equal(web.tagRequests.filter(({ method }) => method === "GET").length, 1);
});

scene("a bundle on another host sets the cookie for the page's domain", async ({ web, page }) => {
  web.file("/app.js", await useTag(web));
  web.page("/", `<script src="${web.url("cdn.other", "/app.js")}"></script>`);
  const id = await openReady(page, web.shop("/?gclid=one"));
  assert.equal(await cookie(page, "_ck"), id);
  assert.equal((await postsSoFar({ web, page })).length, 1);
}, { needsServer: true });

scene("events, consent and callbacks pass through, also before the tag is there", async ({ web, page }) => {
  const url = web.url("go.shop", "/t/main.js?nc=1");
  web.file("/app.js", (await useTag(web, url)) + ';shop.track("Lead", { plan: "pro" }); shop.onClickId((id) => (window.known = id))');
  web.page("/", `<script src="/app.js"></script>`);
  await goto(page, web.shop());
  await page.waitForFunction(() => clickstamp.id === "");
  assert.equal(await page.evaluate(() => shop.clickId(1)), undefined);
  await page.evaluate(() => shop.consent(true));
  const id = await ready(page);
  assert.equal(await page.evaluate(() => window.known), id);
  // Visit and event are sent at the same time; either may arrive first.
  const event = (await postsSoFar({ web, page })).find((post) => post.e);
  assert.deepEqual([event.e, event.v, event.i], ["Lead", { plan: "pro" }, id]);
  await page.evaluate(() => shop.consent(false));
  assert.deepEqual(await page.evaluate(() => [shop.currentClickId() ?? "none", document.cookie]), ["none", ""]);
});

scene("a tag that is blocked, a wrong address and an element named clickstamp harm nothing", async ({ web, page }) => {
  for (const [path, url] of [["/blocked", "http://127.0.0.1:1/t/main.js"], ["/wrong", "no address at all://"], ["/none", ""]]) {
    web.file("/app.js", await useTag(web, url));
    web.page(path, `<div id="clickstamp"></div><a href="${web.pay()}">Buy</a><script src="/app.js"></script>`);
    await page.goto(web.shop(path), { waitUntil: "load" });
    const said = await page.evaluate(async () => [typeof (await shop.clickId(5)), shop.stampedUrl("https://a.b/c"), typeof shop.currentClickId()]);
    assert.deepEqual(said, ["undefined", "https://a.b/c", "undefined"], path);
  }
}, { console: [/^error: Failed to load (resource|module script)/, /^uncaught: Loading (failed for the )?module/] });

scene("a strict policy with a nonce allows the tag through the bundle", async ({ web, page }) => {
  web.file("/app.js", await useTag(web));
  const policy = `script-src 'nonce-abc' 'strict-dynamic'; connect-src ${web.url("go.shop", "")}; require-trusted-types-for 'script'`;
  web.page("/", `<a href="${web.pay()}">Buy</a><script nonce="abc" src="/app.js"></script>`, { "content-security-policy": policy });
  const id = await openReady(page, web.shop("/?gclid=one"));
  await page.click("a");
  assert.equal(referenceOf(await web.payments.next()), id);
});

const SHOP = (src) => `
  import { useState } from "react";
  import { Clickstamp, useClickId } from "clickstamp/react";
  export function Shop({ href }) {
    const id = useClickId();
    const [count, setCount] = useState(0);
    return <main><Clickstamp src={${JSON.stringify(src)}} /><a href={href}>Buy</a><output>{id ?? "none"}</output>
      <button onClick={() => setCount(count + 1)}>{count}</button></main>;
  }`;

scene("React renders on the server, hydrates and shows the click ID; the session's payment is matched", async ({ web, page }) => {
  project.write("shop.jsx", SHOP(web.url("go.shop", "/t/main.js")));
  const render = await project.bundle(`import { renderToString } from "react-dom/server.node"; import { Shop } from "./shop.jsx";
    console.log(JSON.stringify(renderToString(<Shop href={${JSON.stringify(web.pay())}} />)))`, { platform: "node", format: "cjs" });
  const html = project.node("render.cjs", render);
  assert.match(html, /<output>none<\/output>/);
  web.file("/app.js", await project.bundle(`import { hydrateRoot } from "react-dom/client"; import { Shop } from "./shop.jsx";
    hydrateRoot(root, <Shop href={${JSON.stringify(web.pay())}} />, { onRecoverableError: (error) => console.error(error.message) })`));
  web.page("/", `<div id="root">${html}</div><script src="/app.js"></script>`);
  const id = await openReady(page, web.shop("/?gclid=one&utm_source=google"));
  await page.waitForFunction((id) => document.querySelector("output").textContent === id, {}, id);
  await page.click("button");
  await page.waitForFunction(() => document.querySelector("button").textContent === "1");
  assert.equal((await postsSoFar({ web, page })).length, 1);

  // The shop's server reads the cookie of this browser and creates a Checkout Session; Stripe reports its payment.
  const cookies = await page.evaluate(() => document.cookie);
  const params = project.node("checkout.mjs", `import { withClickId } from "clickstamp/server";
    const request = new Request("https://shop.com/checkout", { headers: { cookie: ${JSON.stringify(cookies)} } });
    console.log(JSON.stringify(withClickId({ mode: "payment", line_items: [{ price: "price_1", quantity: 1 }] }, request)))`);
  assert.deepEqual([params.client_reference_id, params.metadata, params.payment_intent_data], [id, { click_id: id }, { metadata: { click_id: id } }]);
  if (!server) return;
  assert.equal((await sendWebhook(server, SECRET, paidWith(params.client_reference_id, "cs_test_packages"))).status, 200);
  const isIt = ({ transaction_id }) => transaction_id === "cs_test_packages";
  const { data } = await askUntil(server, API_TOKEN, "/conversions", ({ data }) => data.some(isIt));
  const { match } = data.find(isIt);
  assert.deepEqual([match.state, match.click_id], ["matched", id]);
});
