// Redirect links in a browser: a payment link that needs no script. In: the real binary with one link saved, a visitor
// with and without a click ID, programs that only look ahead. Out: where they arrive, and with what. Promise: the buyer
// arrives where the owner said and nowhere else; Stripe's host is answered here, the internet is not asked. Each test
// names its row of the acceptance list.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launchBrowser, openVisitor } from "./lib/browser.mjs";
import { CLICK_ID, arrivedAt, cookie, goto, openReady, referenceOf } from "./lib/page.mjs";
import { startServer } from "./lib/server.mjs";
import { Arrivals, openWeb } from "./lib/web.mjs";

const TARGET = "https://buy.stripe.com/8wM3cd?locale=de";
const [EMAIL, PASSWORD] = ["owner@shop.example", "correct horse battery"];
const API_TOKEN = "a-token-for-the-links";

let server, web, browser;
before(async () => {
  server = await startServer({
    CLICKSTAMP_ADMIN_EMAIL: EMAIL,
    CLICKSTAMP_ADMIN_PASSWORD: PASSWORD,
    CLICKSTAMP_API_TOKEN: API_TOKEN,
    CLICKSTAMP_VISIT_RATE: "0",
  });
  [web, browser] = await Promise.all([openWeb(server.url), launchBrowser()]);
  await saveLink();
});
after(async () => {
  await browser?.close();
  web?.close();
  await server?.stop();
});

/** The owner saves the link in the dashboard. */
const saveLink = async () => {
  const owner = await openVisitor(browser);
  const page = await owner.openPage();
  await goto(page, `${server.url}/login`);
  await page.type("#email", EMAIL);
  await page.type("#password", PASSWORD);
  await page.click("form .btn.main");
  await arrivedAt(page, "/");
  await goto(page, `${server.url}/links`);
  for (const [name, value] of [["name", "Spring letter"], ["alias", "spring"], ["target", TARGET]])
    await page.$eval(`form[method=post] [name=${name}]`, (input, value) => (input.value = value), value);
  await page.$eval("form[method=post] [name=target]", (input) => void setTimeout(() => input.form.requestSubmit()));
  await arrivedAt(page, "/links/spring");
  await owner.close();
};

/** The link on the tag host; the web in front of the server passes what it answers. */
const link = (tail = "") => web.url("go.shop", `/p/spring${tail}`);
/** Asks the server itself, and follows nothing. */
const ask = (path, { method = "GET", ...headers } = {}) => fetch(`${server.url}${path}`, { method, headers, redirect: "manual" });
const askApi = async (path) => {
  const response = await fetch(`${server.url}/api/v1${path}`, { headers: { authorization: `Bearer ${API_TOKEN}` } });
  assert.equal(response.status, 200, path);
  return response.json();
};

/** A visitor's page with a simulated response for Stripe's address. `stripe` has the URLs to which they were sent. */
const atStripe = async (visitor) => {
  const page = await visitor.openPage();
  const stripe = new Arrivals();
  await page.setRequestInterception(true);
  page.on("request", (request) => {
    if (new URL(request.url()).hostname.endsWith(".localhost")) return request.continue();
    if (request.isNavigationRequest()) stripe.add(request.url());
    return request.respond({ contentType: "text/html", body: "<!doctype html><title>Pay</title>" });
  });
  return { page, stripe };
};

const redirect = (name, play) =>
  test(`J85 ${name}`, { timeout: 90_000 }, async () => {
    const visitor = await openVisitor(browser);
    try {
      await play({ visitor, ...(await atStripe(visitor)) });
      assert.deepEqual(visitor.said, []);
    } finally {
      await visitor.close();
    }
  });

redirect("without a cookie: a new click ID goes to Stripe, stays in a cookie, and the visit is there", async ({ page, stripe }) => {
  await goto(page, link("?utm_source=letter"));
  const [address, ...more] = stripe.all;
  assert.deepEqual(more, []);
  const id = referenceOf(address);
  assert.match(id, CLICK_ID);
  assert.ok(address.startsWith(TARGET), address);
  web.page("/shop", "");
  await goto(page, web.shop("/shop"));
  assert.equal(await cookie(page, "_ck"), id, "for the owner's other hosts too");
  assert.equal((await askApi(`/visits/${id}`)).visits.length, 1, "the visit was written before the answer");
});

redirect("with the tag's cookie: the same click ID goes to Stripe", async ({ page, stripe }) => {
  web.page("/tagged", `${web.tag}<a href="${link()}">Buy</a>`);
  const id = await openReady(page, web.shop("/tagged?gclid=one"));
  await page.click("a");
  assert.equal(referenceOf(await stripe.next()), id);
});

redirect("from another site, where the tag's host has no cookie to read: it works, and twice gives one ID", async ({ visitor }) => {
  web.page("/foreign", `<a href="${link()}">Buy</a>`);
  const buy = async () => {
    const { page, stripe } = await atStripe(visitor);
    await goto(page, web.url("other", "/foreign"));
    await page.click("a");
    return referenceOf(await stripe.next());
  };
  const [first, second] = [await buy(), await buy()];
  assert.match(first, CLICK_ID);
  assert.equal(second, first);
});

redirect("from a page of another site with the tag: the page hands its click ID over as the link is used", async ({ page, stripe }) => {
  web.page("/foreign-tagged", `${web.tag}<a href="${link("?utm_source=letter")}">Buy</a>`);
  const id = await openReady(page, web.url("other", "/foreign-tagged?gclid=one"));
  assert.equal(await page.$eval("a", (anchor) => anchor.href), link("?utm_source=letter"), "not before");
  await page.click("a");
  const address = await stripe.next();
  assert.equal(referenceOf(address), id);
  assert.doesNotMatch(address, /_ck/);
});

test("J85 HEAD, a preview bot and a browser that looks ahead get the link without a click ID, a cookie or a visit", async () => {
  const before = (await askApi("/overview")).visits;
  assert.equal(typeof before, "number");
  for (const request of [
    { method: "HEAD" },
    { "user-agent": "facebookexternalhit/1.1" },
    { "user-agent": "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)" },
    { "user-agent": "Mozilla/5.0", "sec-purpose": "prefetch" },
  ]) {
    const response = await ask("/p/spring", request);
    assert.equal(response.status, 302, JSON.stringify(request));
    assert.equal(response.headers.get("location"), TARGET);
    assert.equal(response.headers.get("set-cookie"), null);
  }
  assert.equal((await askApi("/overview")).visits, before);
});

test("J85 an unknown alias is 404, with a page and without a way out", async () => {
  for (const path of ["/p/nothing", "/p/spring%2F..%2Fx", "/p/https:%2F%2Fevil.example"]) {
    const response = await ask(path, { "user-agent": "Mozilla/5.0" });
    assert.equal(response.status, 404, path);
    assert.equal(response.headers.get("location"), null);
    assert.match(response.headers.get("content-type"), /^text\/html/);
  }
});

test("J85 no request leads anywhere but to the stored link", async () => {
  for (const tail of ["?url=https://evil.example", "?target=//evil.example", "?client_reference_id=mine", "?utm_source=https://evil.example/%0d%0aLocation:x", "?_ck=evil", "?@evil.example"]) {
    const response = await ask(`/p/spring${tail}`, { "user-agent": "Mozilla/5.0", "x-forwarded-host": "evil.example" });
    assert.equal(response.status, 302, tail);
    const { origin, pathname, searchParams } = new URL(response.headers.get("location"));
    assert.deepEqual([origin, pathname, searchParams.get("locale")], ["https://buy.stripe.com", "/8wM3cd", "de"], tail);
    assert.match(searchParams.get("client_reference_id"), CLICK_ID, tail);
  }
});
