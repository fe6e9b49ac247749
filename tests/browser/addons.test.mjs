// The race stub, consent and the add-ons in a real browser.
// In: pages with an inline stub, an early or a late tag, a site that asks first. Out: what arrives at the pretend Stripe, what the browser keeps.
// Promise: a click waits at most 1.5 s, nothing is kept without consent, and the console stays empty. Each test names its row of the acceptance list.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { TOKEN, assertStamped, attribute, goto, openReady, postsSoFar, ready, referenceOf, scene } from "./lib/scene.mjs";

const read = (name) => readFileSync(new URL(`../../static/${name}.min.js`, import.meta.url), "utf8");
const STUB = `<script>${read("tag-stub")}</script>`;
/** Puts an add-on around the tag, as the server does, with these keys in the config. */
const wrap = (name, keys) => (text) => {
  const at = text.lastIndexOf("({");
  return `${read(`tag-${name}`)}(${text.slice(0, at)})({${JSON.stringify(keys).slice(1, -1)},${text.slice(at + 2)}`;
};

scene("G72 with the race stub a click before the tag waits for it, and leaves with the ID", async ({ web, page }) => {
  let release;
  web.holdScript = new Promise((resolve) => (release = resolve));
  web.page("/", `${STUB}${web.tag}<a href="${web.pay()}">Buy</a>`);
  await goto(page, web.shop());
  await page.click("a");
  assert.equal(page.url(), web.shop());
  release();
  assert.match(referenceOf(await web.payments.next()), /^ck_/);
});

scene("G72 with the race stub a click waits no longer than 1.5 s", async ({ web, page }) => {
  web.answerScript = () => {};
  web.page("/", `${STUB}${web.tag}<a href="${web.pay()}">Buy</a>`);
  await goto(page, web.shop());
  const before = Date.now();
  await page.click("a");
  assert.equal(referenceOf(await web.payments.next()), TOKEN);
  const took = Date.now() - before;
  assert.ok(took >= 1400 && took < 6000, `${took} ms`);
});

scene("G73 without the stub the placeholder reaches Stripe as it is", async ({ web, page }) => {
  web.answerScript = () => {};
  web.page("/", `${web.tag}<a href="${web.pay()}">Buy</a>`);
  await goto(page, web.shop());
  await page.click("a");
  assert.equal(referenceOf(await web.payments.next()), TOKEN);
});

scene("H75 H77 consent required: nothing until it is granted, then the landing's gclid; withdrawn: everything is gone", async ({ web, page }) => {
  web.page("/", `${web.tag.replace("main.js", "main.js?nc=1")}<a href="${web.pay()}">Buy</a>`);
  await goto(page, web.shop("/?gclid=one"), { waitUntil: "load" });
  const kept = () => page.evaluate(() => [document.cookie, Object.keys(localStorage).length, clickstamp.id]);
  assert.deepEqual(await kept(), ["", 0, ""]);
  assert.equal(await attribute(page, "a", "href"), web.pay());
  assert.equal((await postsSoFar({ web, page })).length, 0);
  await page.evaluate(() => clickstamp("consent", true));
  const id = await ready(page);
  await assertStamped(page, "a", "href", web.pay(), id);
  assert.equal((await postsSoFar({ web, page }))[0].u, web.shop("/?gclid=one"));
  await page.evaluate(() => clickstamp("consent", false));
  assert.deepEqual(await kept(), ["", 0, ""]);
  assert.equal(await attribute(page, "a", "href"), web.pay());
});

scene("F59 F60 auto mode: a plain payment link gets the reference, an empty one is filled, one of its own stays", async ({ web, page }) => {
  const bare = web.url("buy.stripe", "/abc");
  web.alterScript = wrap("auto", { h: "^https?://buy\\.stripe\\.localhost(:\\d+)?/", u: 1 });
  web.page("/", `${web.tag}<a id="bare" href="${bare}?a=1#f">Buy</a><a id="empty" href="${web.pay("")}">Buy</a><a id="own" href="${web.pay("mine")}">Buy</a>
    <stripe-buy-button publishable-key="pk_1"></stripe-buy-button>`);
  const id = await openReady(page, web.shop());
  await page.waitForSelector("[client-reference-id]");
  assert.equal(await attribute(page, "#bare", "href"), `${bare}?a=1&client_reference_id=${id}#f`);
  assert.equal(await attribute(page, "#empty", "href"), web.pay(id));
  assert.equal(await attribute(page, "#own", "href"), web.pay("mine"));
  assert.equal(await attribute(page, "stripe-buy-button", "client-reference-id"), id);
});

scene("I80 I81 a linked domain: decorated on use only, adopted there, gone from the address, the stored ID named", async ({ web, page }) => {
  web.page("/", `${web.tag}<a href="${web.url("other", "/there?a=1")}">Go</a>`, { "referrer-policy": "unsafe-url" });
  web.page("/there", `<script src="${web.url("go.shop", "/t/main.js?there")}"></script>`);
  web.alterScript = (text) => wrap("linked", { d: "^https?://(www\\.shop|other)\\.localhost(:\\d+)?/" })(text);
  const id = await openReady(page, web.shop());
  assert.equal(await attribute(page, "a", "href"), web.url("other", "/there?a=1"));
  await Promise.all([page.waitForNavigation(), page.click("a")]);
  assert.equal(await ready(page), id);
  assert.equal(page.url(), web.url("other", "/there?a=1"));
});
