// The journey, with the real binary, a real browser and Stripe's own signing code: ad → page → payment link → webhook →
// AnyTrack → API → dashboard. In: the binary (CLICKSTAMP_BINARY; by default the debug build). Out: one test that reads
// like the promise of the README. Promise: nothing waits by the clock; each step begins when the one before has
// arrived.

import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import { after, before, test } from "node:test";
import { launchBrowser, openVisitor } from "./lib/browser.mjs";
import { CLICK_ID, cookie, goto, openReady, referenceOf } from "./lib/page.mjs";
import { startServer } from "./lib/server.mjs";
import { askApi, paidWith, sendWebhook } from "./lib/stripe.mjs";
import { openWeb } from "./lib/web.mjs";

const SECRET = "whsec_of_the_journey";
const TOKEN = "a-token-for-the-journey";
const [EMAIL, PASSWORD] = ["owner@shop.example", "correct horse battery"];

/** Takes everything with 200 and keeps the bodies as text. `next` gives them one by one. */
const openAnyTrack = async () => {
  const received = [];
  const arrivals = [];
  const server = http.createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    received.push({ path: request.url, type: request.headers["content-type"], body: Buffer.concat(chunks).toString() });
    response.writeHead(200).end("ok");
    arrivals.shift()?.(received.at(-1));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    received,
    url: `http://127.0.0.1:${server.address().port}/acc/collect/slug-k7Qe`,
    next: () => new Promise((resolve) => arrivals.push(resolve)),
    close: () => (server.close(), server.closeAllConnections()),
  };
};

let anytrack, server, browser, web;
before(async () => {
  [anytrack, browser, web] = await Promise.all([openAnyTrack(), launchBrowser(), openWeb()]);
  server = await startServer({
    CLICKSTAMP_STRIPE_WEBHOOK_SECRET: SECRET,
    CLICKSTAMP_ANYTRACK_URL: anytrack.url,
    CLICKSTAMP_ALLOW_PRIVATE_DESTINATIONS: "true",
    CLICKSTAMP_API_TOKEN: TOKEN,
    CLICKSTAMP_ADMIN_EMAIL: EMAIL,
    CLICKSTAMP_ADMIN_PASSWORD: PASSWORD,
    CLICKSTAMP_VISIT_RATE: "0",
  });
});
after(async () => {
  await browser?.close();
  await server?.stop();
  web?.close();
  anytrack?.close();
});

test("a click on an ad becomes a matched conversion that AnyTrack receives once and the dashboard explains", { timeout: 60_000 }, async () => {
  const visitor = await openVisitor(browser);
  const page = await visitor.openPage();

  // Somebody clicks an ad. The tag writes a click ID into the payment link and reports the visit.
  const { port } = new URL(server.url);
  web.page("/offer", `<script async src="http://go.shop.localhost:${port}/t/main.js"></script><a href="${web.pay()}">Buy</a>`);
  const reported = page.waitForResponse((response) => response.url().endsWith("/v"));
  const clickId = await openReady(page, web.shop("/offer?utm_source=google&utm_medium=cpc&utm_campaign=spring&gclid=AbC-1"));
  assert.match(clickId, CLICK_ID);
  assert.equal(await cookie(page, "_ck"), clickId);
  assert.equal(await page.$eval("a", (link) => link.href), web.pay(clickId));
  assert.equal((await reported).status(), 204);

  // The visitor clicks the link; the click ID arrives at Stripe.
  await page.click("a");
  const reference = referenceOf(await web.payments.next());
  assert.equal(reference, clickId);

  // The visitor pays. Stripe sends the event twice, as it may.
  const event = paidWith(reference, "cs_live_journey");
  const [told] = await Promise.all([
    anytrack.next(),
    sendWebhook(server, SECRET, event).then((response) => assert.equal(response.status, 200)),
  ]);
  assert.equal((await sendWebhook(server, SECRET, event)).status, 200);

  // AnyTrack receives it in exactly the documented form.
  assert.equal(told.type, "application/json");
  assert.equal(
    told.body,
    `{"clickid":"${clickId}","value":102.60,"currency":"USD","email":"jenny.rosen@example.com","status":"paid",` +
      `"transaction_id":"cs_live_journey","event_name":"Purchase","ref_id":"${clickId}"}`,
  );
  await server.heard(/tried a delivery: accepted/);

  // The API says how it was matched.
  const { data } = await askApi(server, TOKEN, "/conversions");
  assert.equal(data.length, 1);
  const [conversion] = data;
  assert.deepEqual(conversion.match, { state: "matched", by: "click_id", reason: null, click_id: clickId });
  assert.deepEqual([conversion.amount, conversion.currency, conversion.status], ["102.60", "USD", "paid"]);
  const { destination, state, attempts, last_status } = conversion.deliveries[0];
  assert.deepEqual({ destination, state, attempts, last_status }, { destination: "anytrack", state: "delivered", attempts: 1, last_status: 200 });

  // The owner signs in and reads the journey of this payment.
  const owner = await openVisitor(browser);
  const dashboard = await owner.openPage();
  await goto(dashboard, `${server.url}/login`);
  await dashboard.type("#email", EMAIL);
  await dashboard.type("#password", PASSWORD);
  await Promise.all([dashboard.waitForNavigation(), dashboard.click("form .btn.main")]);
  assert.equal(new URL(dashboard.url()).pathname, "/");
  await goto(dashboard, `${server.url}/conversions/${conversion.id}`);
  const steps = await dashboard.$$eval(".time > li", (items) => items.map((item) => item.textContent.replace(/\s+/g, " ").trim()));
  const showsStep = (pattern) => assert.ok(steps.some((step) => pattern.test(step)), `${pattern} in\n${steps.join("\n")}`);
  showsStep(/Clicked the Google ad “spring” and landed on \/offer/);
  showsStep(new RegExp(clickId));
  showsStep(/Matched by click ID/);
  showsStep(/AnyTrack accepted it on the first attempt.*200 OK/);
  assert.match(await dashboard.$eval("h1", (title) => title.textContent), /\$102\.60/);

  // It was sent once, and no page logged an error.
  assert.equal(anytrack.received.length, 1);
  assert.deepEqual([visitor.said, owner.said], [[], []]);
  await Promise.all([visitor.close(), owner.close()]);
});

test("a page whose policy stops the report: the payment still matches, by the request for the script", { timeout: 60_000 }, async () => {
  const visitor = await openVisitor(browser);
  const page = await visitor.openPage();
  const { port } = new URL(server.url);
  const tagHost = `http://go.shop.localhost:${port}`;
  web.page(
    "/strict",
    `<script async referrerpolicy="no-referrer-when-downgrade" src="${tagHost}/t/main.js"></script><a href="${web.pay()}">Buy</a>`,
    { "content-security-policy": `default-src 'none'; script-src ${tagHost}; connect-src 'self'` },
  );
  const clickId = await openReady(page, web.shop("/strict?utm_source=google&utm_medium=cpc&gclid=AbC-2"));
  await page.click("a");
  assert.equal(referenceOf(await web.payments.next()), clickId);

  assert.equal((await sendWebhook(server, SECRET, paidWith(clickId, "cs_live_strict"))).status, 200);
  // After the time for the tag's own request, the server stores the visit from the script request, and the payment
  // matches it.
  await server.heard(/counting a visit whose report never arrived/);
  const { data } = await askApi(server, TOKEN, "/conversions");
  const conversion = data.find(({ transaction_id }) => transaction_id === "cs_live_strict");
  assert.deepEqual(conversion.match, { state: "matched", by: "click_id", reason: null, click_id: clickId });
  assert.deepEqual([conversion.touches[0].source, conversion.touches[0].medium], ["google", "cpc"]);
  assert.equal((await askApi(server, TOKEN, `/visits/${clickId}`)).is_reported, false);
  // The browser says why, and nothing else: the tag threw nothing.
  assert.ok(visitor.said.length > 0 && visitor.said.every((text) => /Content Security Policy/.test(text)), visitor.said.join("\n"));
  await visitor.close();
});
