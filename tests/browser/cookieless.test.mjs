// The tag that stores nothing, in a real browser: several pages in a row, and every way to a payment link.
// Checks cookies, storages and databases after each page, and what arrives at the pretend Stripe.
// Guarantees that nothing of the tag stays in the browser, and that each way out carries the page's click ID.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { nextTab } from "./lib/browser.mjs";
import { CLICK_ID, TOKEN, arrivalOf, arrivedAt, attribute, cookie, openReady, postsSoFar, ready, referenceOf, scene } from "./lib/scene.mjs";

const COOKIELESS = readFileSync(new URL("../../static/tag-cookieless.min.js", import.meta.url), "utf8");

/** Sends this tag instead of the other, with the config that belongs to it. */
const withoutCookies = (web) =>
  (web.alterScript = (text) => {
    const config = text.slice(text.lastIndexOf("({"));
    assert.match(config, /"i":"ck_/);
    return COOKIELESS + config.replace("({", '({"y":1,');
  });

/** All that a page can find in its browser. */
const kept = (page) =>
  page.evaluate(async () => ({
    cookie: document.cookie,
    local: Object.keys(localStorage),
    session: Object.keys(sessionStorage),
    databases: (await indexedDB.databases()).length,
    caches: window.caches ? (await caches.keys()).length : 0,
  }));
const NOTHING = { cookie: "", local: [], session: [], databases: 0, caches: 0 };

scene("cookieless: after several pages the browser has kept nothing, and each page was a visit", async ({ web, page, visitor }) => {
  withoutCookies(web);
  const pages = ["/?gclid=one", "/offer", "/cart?utm_source=letter"];
  const html = (next) => `${web.tag}<a id="next" href="${next}">Next</a><a id="pay" href="${web.pay()}">Buy</a>`;
  for (const [at, path] of pages.entries()) web.page(path.split("?")[0], html(pages[at + 1] ?? "/"));
  const ids = [await openReady(page, web.shop(pages[0]))];
  for (const path of [...pages.slice(1), "/"]) {
    assert.deepEqual(await kept(page), NOTHING);
    assert.equal(await attribute(page, "#pay", "href"), web.pay(), "not before it is used");
    await page.click("#next");
    await arrivedAt(page, path.split("?")[0]);
    ids.push(await ready(page));
  }
  await page.evaluate(() => history.pushState(null, "", "/route?gclid=two"));
  await page.evaluate(() => clickstamp("event", "Lead"));
  assert.deepEqual(await kept(page), NOTHING);
  assert.deepEqual(await visitor.context.cookies(), []);
  for (const id of ids) assert.match(id, CLICK_ID);
  assert.equal(new Set(ids).size, 4);
  const posts = await postsSoFar({ web, page });
  assert.deepEqual(posts.slice(0, 4).map(({ i, p, k }) => [i, p, k]), ids.map((id) => [id, undefined, undefined]));
  for (const { headers } of posts) assert.equal(headers.cookie, undefined);
});

scene("cookieless: what the storing tag has kept is deleted by the first page without it", async ({ web, page, visitor }) => {
  web.page("/", web.tag);
  const id = await openReady(page, web.shop());
  assert.equal(await cookie(page, "_ck"), id);
  // The answer to the visit may set the cookie too.
  await page.waitForFunction(() => localStorage._ck_q === "");
  // Older versions and redirect links may have set one for the host alone.
  await page.evaluate((id) => {
    document.cookie = `_ck=${id};path=/;max-age=999`;
    document.cookie = "cart=1;path=/;max-age=999";
    localStorage.cart = "1";
  }, id);
  assert.ok(await page.evaluate(() => localStorage._ck && localStorage._ck_s));
  withoutCookies(web);
  assert.notEqual(await openReady(page, web.shop()), id);
  assert.deepEqual(await kept(page), { ...NOTHING, cookie: "cart=1", local: ["cart"] });
  assert.deepEqual((await visitor.context.cookies()).map(({ name }) => name), ["cart"]);
});

const link = (web, attributes = "") => `<a ${attributes} href="${web.pay()}">Buy</a>`;
/** Ways to a payment link, each with the page's markup. */
const WAYS = [
  ["a click", link, (page) => page.click("a")],
  ["a middle click", link, (page) => page.click("a", { button: "middle" })],
  ["a click into a new tab", (web) => link(web, `target="_blank"`), (page) => page.click("a")],
  ["the Enter key", link, async (page) => {
    await page.focus("a");
    await page.keyboard.press("Enter");
  }],
  ["window.open", (web) => `<button onclick="window.open('${web.pay("--CLICK' + '-ID--")}')">Buy</button>`, (page, visitor) => nextTab(visitor, () => page.click("button"))],
  ["a form", (web) => `<form action="${web.url("buy.stripe", "/abc")}"><input type="hidden" name="client_reference_id" value="${TOKEN}"><button>Buy</button></form>`, (page) => page.click("button")],
  ["requestSubmit()", (web) => `<form method="post" action="${web.url("buy.stripe", "/abc")}"><input type="hidden" name="client_reference_id" value="${TOKEN}"></form>`, (page) => page.$eval("form", (form) => form.requestSubmit())],
  ["location =", () => "", (page, _, web) => page.evaluate((url) => void (location = url), web.pay()), "the engine has no Navigation API; a redirect link serves there"],
];

for (const [way, html, use, webKitCannot] of WAYS)
  scene(`cookieless: ${way} carries the page's click ID`, async ({ web, page, visitor }) => {
    withoutCookies(web);
    web.page("/", web.tag + html(web));
    const id = await openReady(page, web.shop());
    assert.equal(referenceOf(await arrivalOf(web, use(page, visitor, web))), id);
    assert.equal((await web.posts.next()).i, id);
  }, { webKitCannot });

scene("cookieless: consent withdrawn on the page stops it", async ({ web, page }) => {
  withoutCookies(web);
  web.page("/", web.tag + link(web));
  await openReady(page, web.shop());
  await page.evaluate(() => {
    addEventListener("click", (event) => event.preventDefault());
    document.links[0].click();
  });
  assert.match(referenceOf(await attribute(page, "a", "href")), CLICK_ID);
  await page.evaluate(() => clickstamp("consent", false));
  assert.equal(await attribute(page, "a", "href"), web.pay());
  await page.click("a");
  await page.evaluate(() => clickstamp("event", "Lead"));
  assert.equal(await attribute(page, "a", "href"), web.pay());
  assert.equal((await postsSoFar({ web, page })).length, 1);
  assert.deepEqual(await kept(page), NOTHING);
});
