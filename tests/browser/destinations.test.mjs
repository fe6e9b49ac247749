// A destination from nothing to a delivered sale, as its owner clicks through it: with JavaScript and without, on a
// desk and on a phone. In: the real binary, a fake Zap, a webhook signed like Stripe's. Out: what the pages say, and
// what the Zap got. Promise: each step is a click on something that the page names; nothing is posted behind its back.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { launchBrowser, openVisitor } from "./lib/browser.mjs";
import { goto } from "./lib/page.mjs";
import { startServer } from "./lib/server.mjs";
import { askUntil, paidWith, sendWebhook } from "./lib/stripe.mjs";

const SECRET = "whsec_browser";
const TOKEN = "a-token-for-browsers";
const ACCOUNT = { CLICKSTAMP_ADMIN_EMAIL: "ada@shop.example", CLICKSTAMP_ADMIN_PASSWORD: "correct horse battery" };

let browser;
before(async () => (browser = await launchBrowser()));
after(async () => browser?.close());

/** A catch hook that returns the given response, or otherwise one like Zapier's. */
const startZap = async () => {
  const [received, answers] = [[], []];
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    received.push(JSON.parse(body));
    const [status, text] = answers.shift() ?? [200, JSON.stringify({ status: "success" })];
    response.writeHead(status).end(text);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `http://127.0.0.1:${server.address().port}/hooks/catch/1234/b7Qe/`;
  return { url, received, answers, stop: () => server.close() };
};

/** The button of this name, in the first form that has one. */
const button = (page, name) => page.waitForSelector(`xpath///button[starts-with(normalize-space(.), "${name}")]`);
const press = async (page, name) => {
  const found = await button(page, name);
  await Promise.all([page.waitForNavigation({ waitUntil: "domcontentloaded" }), found.click()]);
};
const follow = async (page, name) => {
  const link = await page.waitForSelector(`xpath///main//a[contains(normalize-space(.), "${name}")]`);
  await Promise.all([page.waitForNavigation({ waitUntil: "domcontentloaded" }), link.click()]);
};
/** What the main part says. Asked of the protocol, because a page without JavaScript evaluates nothing of its own. */
const said = (page) => page.$eval("main", (main) => main.textContent.replace(/\s+/g, " "));
const fill = async (page, selector, text) => {
  await page.$eval(selector, (field) => (field.value = ""));
  await page.type(selector, text);
};

for (const [name, { script, size }] of Object.entries({
  "with JavaScript, on a desk": { script: true, size: { width: 1280, height: 900 } },
  "without JavaScript, on a phone": { script: false, size: { width: 390, height: 844 } },
}))
  test(`a destination is added, tried, corrected and delivered to, ${name}`, { timeout: 120_000 }, async () => {
    const zap = await startZap();
    const server = await startServer({
      ...ACCOUNT,
      CLICKSTAMP_API_TOKEN: TOKEN,
      CLICKSTAMP_STRIPE_WEBHOOK_SECRET: SECRET,
      CLICKSTAMP_ALLOW_PRIVATE_DESTINATIONS: "true",
    });
    const owner = await openVisitor(browser);
    try {
      const page = await owner.openPage();
      await page.setViewport(size);
      await page.setJavaScriptEnabled(script);
      await goto(page, `${server.url}/login`);
      await page.type("#email", ACCOUNT.CLICKSTAMP_ADMIN_EMAIL);
      await page.type("#password", ACCOUNT.CLICKSTAMP_ADMIN_PASSWORD);
      await press(page, "Sign in");

      // It is added as the recipe says; Zapier has no place for a secret, so none is shown.
      await goto(page, `${server.url}/settings/destinations`);
      await page.select("#preset", "zapier");
      await page.type("#name", "My Zap");
      await page.type("#url", zap.url);
      await press(page, "Add destination");
      assert.match(await said(page), /Destination added.*below to check it/);
      assert.doesNotMatch(await said(page), /whsec_/);

      // A row is changed, wrongly at first: the page marks the place, and leads to it.
      await fill(page, "[name=expression_0]", "conversion.event_nam | upper");
      await press(page, "Save");
      assert.match(await said(page), /Not saved.*Field 1, event: there is no “conversion.event_nam”; did you mean conversion.event_name\?/);
      assert.equal(await page.$eval("#fault-0 mark", (mark) => mark.textContent), "conversion.event_nam");
      assert.equal(await page.$eval("[name=expression_0]", (field) => field.getAttribute("aria-invalid")), "true");
      await fill(page, "[name=expression_0]", "conversion.event_name | upper");
      await press(page, "Show preview");
      assert.match(await said(page), /"event":"PURCHASE".*Nothing was sent\./);
      assert.equal(zap.received.length, 0);
      await press(page, "Save");
      assert.match(await said(page), /Saved\./);

      // A test is refused, with the reason that the other side gives; then it is taken.
      zap.answers.push([404, '{"status":"error","message":"please unsubscribe me!"}']);
      await press(page, "Send a test conversion");
      assert.match(await said(page), /Rejected it answered 404.*Response: 404 Not Found.*please unsubscribe me!/);
      await press(page, "Send a test conversion");
      assert.match(await said(page), /Accepted.*Response: 200 OK/);
      assert.equal(zap.received[1].event, "PURCHASE");
      assert.equal(zap.received[1].test, true);

      // A real sale fails, and its page shows why. After the Zap is fixed, the same message is resent and arrives.
      zap.answers.push([404, '{"status":"error","message":"please unsubscribe me!"}']);
      await sendWebhook(server, SECRET, paidWith(null, "cs_live_1"));
      await askUntil(server, TOKEN, "/deliveries", ({ data }) => data.some(({ state }) => state === "given_up"));
      await goto(page, `${server.url}/settings/destinations/my-zap`);
      assert.match(await said(page), /Failed in the last 30 days 1 delivery \(\$102\.60\): the destination rejected it/);
      await follow(page, "1 delivery");
      await follow(page, "$102.60");
      assert.match(await said(page), /Failed: the destination rejected it.*It answered 404\./);
      assert.match(await said(page), /Rejected \(404 Not Found\).*please unsubscribe me!/);
      await press(page, "Resend");
      await askUntil(server, TOKEN, "/deliveries", ({ data }) => data.some(({ state }) => state === "delivered"));
      await goto(page, page.url());
      assert.match(await said(page), /Accepted/);
      assert.deepEqual(zap.received[2], zap.received[3], "the same message");
      assert.equal(zap.received[3].transaction_id, "cs_live_1");

      assert.deepEqual(owner.said.filter((text) => !/status of 4\d\d/.test(text)), []);
    } finally {
      await owner.close();
      await server.stop();
      zap.stop();
    }
  });
