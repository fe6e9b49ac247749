// The race stub, consent and the add-ons in a real browser.
// In: pages with an inline stub, an early or a late tag, a site that asks first. Out: what arrives at the pretend Stripe, what the browser keeps.
// Promise: a click waits at most 1.5 s, nothing is kept without consent, and the console stays empty. Each test names its row of the acceptance list.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { isWebKit, nextTab } from "./lib/browser.mjs";
import { API_TOKEN, CLICK_ID, SECRET, TOKEN, arrivedAt, assertStamped, attribute, cookie, goto, openReady, postsSoFar, ready, referenceOf, scene, server } from "./lib/scene.mjs";
import { askApi, askUntil, paidWith, sendWebhook } from "./lib/stripe.mjs";

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
  web.page("/", `${STUB}${web.lateTag}<a href="${web.pay()}">Buy</a>`);
  await goto(page, web.shop());
  await page.click("a");
  assert.equal(page.url(), web.shop());
  release();
  assert.match(referenceOf(await web.payments.next()), /^ck_/);
});

scene("G72 with the race stub a click waits no longer than 1.5 s", async ({ web, page }) => {
  web.answerScript = () => {};
  web.page("/", `${STUB}${web.lateTag}<a href="${web.pay()}">Buy</a>`);
  await goto(page, web.shop());
  const before = Date.now();
  await page.click("a");
  assert.equal(referenceOf(await web.payments.next()), TOKEN);
  const took = Date.now() - before;
  assert.ok(took >= 1400 && took < 6000, `${took} ms`);
});

scene("G72 with the race stub other clicks go on at once: with a key, to a new tab, prevented by the page, on other links", async ({ web, page, visitor }) => {
  web.answerScript = () => {};
  web.page("/", `${STUB}${web.lateTag}<a id="pay" href="${web.pay()}">Buy</a><a id="tab" target="_blank" href="${web.pay()}&tab">Buy</a>
    <a id="page" href="${web.pay()}">Buy</a><a id="other" href="/other">Other</a>
    <script>document.querySelector("#page").onclick = (event) => (event.preventDefault(), window.handled = true)</script>`);
  web.page("/other", "");
  await goto(page, web.shop());
  await page.evaluate(() => addEventListener("click", (event) => (window.held = event.defaultPrevented)));
  const held = () => page.evaluate(() => window.held);
  const tabs = [];
  // A click with a key opens no tab in the browser of WebKit's driver.
  if (!isWebKit) {
    await page.keyboard.down("Control");
    tabs.push(await nextTab(visitor, () => page.click("#pay")));
    await page.keyboard.up("Control");
    assert.equal(referenceOf(await web.payments.next()), TOKEN);
    assert.equal(await held(), false);
  }
  tabs.push(await nextTab(visitor, () => page.click("#tab")));
  assert.match(await web.payments.next(), /&tab$/);
  assert.equal(await held(), false);
  for (const tab of tabs) await tab.close();
  await page.click("#page");
  assert.ok(await page.evaluate(() => window.handled && location.pathname === "/"));
  await page.click("#other");
  await arrivedAt(page, "/other");
  assert.equal(web.payments.all.length, tabs.length);
});

scene("G73 without the stub the placeholder reaches Stripe as it is, and the payment says why nobody matched, in all spellings", async ({ web, page, visitor }) => {
  web.answerScript = () => {};
  const spellings = [TOKEN, "--click-id--", "%2D%2DCLICK-ID%2D%2D", "%2d%2dClick%2dId%2d%2d"];
  web.page("/", `${web.lateTag}${spellings.map((text) => `<a href="${web.pay(text)}">Buy</a>`).join("")}`);
  const before = await askApi(server, API_TOKEN, "/conversions?reason=placeholder_not_replaced");
  const payments = [];
  for (const index of spellings.keys()) {
    await goto(page, web.shop());
    await page.click(`a:nth-of-type(${index + 1})`);
    const reference = referenceOf(await web.payments.next());
    await page.close();
    page = await visitor.openPage();
    assert.equal(reference.toUpperCase(), TOKEN);
    payments.push(`cs_live_g73_${index}`);
    assert.equal((await sendWebhook(server, SECRET, paidWith(reference, payments.at(-1)))).status, 200);
  }
  const after = await askUntil(server, API_TOKEN, "/conversions?reason=placeholder_not_replaced", ({ data }) => data.length >= before.data.length + payments.length);
  assert.deepEqual(after.data.map(({ transaction_id }) => transaction_id).filter((id) => payments.includes(id)).sort(), payments);
  assert.equal(after.data.length - before.data.length, spellings.length);
}, { needsServer: true });

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

/** Nothing of ours: no click ID, no cookie, no storage, no post, the placeholder where it was. */
const assertSilent = async ({ web, page }) => {
  assert.deepEqual(await page.evaluate(() => [document.cookie, Object.keys(localStorage).length, clickstamp.id]), ["", 0, ""]);
  assert.equal(await attribute(page, "a", "href"), web.pay());
};

scene("H78 Google's consent mode: denied by default, granted by the banner, taken back", async ({ web, page }) => {
  web.alterScript = wrap("consent-google", { m: 1 });
  // As Google's own snippet and a banner write it: entries are argument lists, and gtag's script may replace push.
  const banner = (isKnown) => `<script>window.dataLayer = window.dataLayer || []; function gtag() { dataLayer.push(arguments) }
    gtag("consent", "default", { ad_storage: "denied", analytics_storage: "denied", wait_for_update: 500 }); gtag("js", new Date()); gtag("config", "G-1")
    ${isKnown ? 'gtag("consent", "update", { ad_storage: "granted" })' : ""}</script>
    <button id="some" onclick="gtag('consent', 'update', { analytics_storage: 'granted' })">Some</button>
    <button id="yes" onclick="gtag('consent', 'update', { ad_storage: 'granted', ad_user_data: 'granted' })">Yes</button>
    <button id="no" onclick="gtag('consent', 'update', { ad_storage: 'denied' })">No</button>${web.tag}<a href="${web.pay()}">Buy</a>`;
  web.page("/", banner(false));
  web.page("/known", banner(true));
  await goto(page, web.shop("/?gclid=one"), { waitUntil: "load" });
  await assertSilent({ web, page });
  await page.click("#some");
  await assertSilent({ web, page });
  assert.deepEqual(await postsSoFar({ web, page }), []);
  await page.click("#yes");
  const id = await ready(page);
  await assertStamped(page, "a", "href", web.pay(), id);
  assert.deepEqual((await postsSoFar({ web, page })).map(({ i, u }) => [i, u]), [[id, web.shop("/?gclid=one")]]);
  // On the next page the banner remembers, and says so before the tag comes.
  assert.equal(await openReady(page, web.shop("/known")), id);
  // One where it says nothing yet deletes nothing.
  await goto(page, web.shop("/"), { waitUntil: "load" });
  assert.equal(await cookie(page, "_ck"), id);
  assert.equal(await attribute(page, "a", "href"), web.pay());
  await openReady(page, web.shop("/known"));
  await page.click("#no");
  await assertSilent({ web, page });
  assert.equal((await postsSoFar({ web, page })).length, 1);
});

for (const when of ["a stub before the tag", "long after the tag"])
  scene(`H78 a consent tool that speaks TCF, with ${when}: nothing while it asks, then the visitor's word`, async ({ web, page }) => {
    web.alterScript = wrap("consent-tcf", { m: 1 });
    // The framework's own stub keeps calls until the tool is there; the tool takes them over.
    const stub = `<script>(() => { const kept = []; window.__tcfapi = (...call) => void kept.push(call); window.__tcfapi.kept = kept })()</script>`;
    web.page("/", `${when.includes("stub") ? stub : ""}${web.tag}<a href="${web.pay()}">Buy</a>`);
    await goto(page, web.shop("/?gclid=one"), { waitUntil: "load" });
    await assertSilent({ web, page });
    const heard = page.evaluate(() => new Promise((resolve) => {
      const kept = window.__tcfapi?.kept ?? [];
      const listeners = [];
      window.tell = (eventStatus, consents, gdprApplies = true) =>
        listeners.forEach((listener) => listener({ eventStatus, gdprApplies, purpose: { consents } }, true));
      window.__tcfapi = (command, version, callback) => {
        if (command !== "addEventListener" || version !== 2) return callback(null, false);
        listeners.push(callback);
        callback({ eventStatus: "cmpuishown", gdprApplies: true, purpose: { consents: {} } }, true);
        resolve();
      };
      for (const call of kept) window.__tcfapi(...call);
    }));
    await heard;
    await assertSilent({ web, page });
    await page.evaluate(() => tell("useractioncomplete", { 1: true, 7: false }));
    await assertSilent({ web, page });
    assert.deepEqual(await postsSoFar({ web, page }), []);
    await page.evaluate(() => tell("useractioncomplete", { 1: true, 7: true }));
    const id = await ready(page);
    assert.match(id, CLICK_ID);
    await assertStamped(page, "a", "href", web.pay(), id);
    assert.deepEqual((await postsSoFar({ web, page })).map(({ i, u }) => [i, u]), [[id, web.shop("/?gclid=one")]]);
    await page.evaluate(() => tell("useractioncomplete", {}));
    await assertSilent({ web, page });
  });

scene("H79 nc=1: no cookie from anywhere, nothing recorded, though everything of the page carries ad parameters", async ({ web, page, visitor }) => {
  const visits = async () => (await askApi(server, API_TOKEN, "/overview")).visits;
  const before = await visits();
  web.page("/", `${web.tag.replace("<script", '<script referrerpolicy="no-referrer-when-downgrade"').replace("main.js", "main.js?nc=1")}<a href="${web.pay()}">Buy</a>`);
  await goto(page, web.shop("/?gclid=one&utm_source=x"), { waitUntil: "load" });
  await assertSilent({ web, page });
  assert.deepEqual(web.tagAnswers.map((headers) => headers["set-cookie"]), [undefined]);
  assert.match(web.tagRequests[0].headers.referer, /gclid=one/, "the tag's host saw the address");
  assert.deepEqual(await visitor.context.cookies(), []);
  assert.deepEqual(await postsSoFar({ web, page }), []);
  assert.equal(await visits(), before);
}, { needsServer: true });

/** A pretend AnyTrack: its click ID comes a moment after its script, and it then replaces the placeholder in anchors, as the real one does. */
const ANYTRACK = `<script>
  window.AnyTrack = function () {};
  window.arrive = (id, isReplacing) => {
    window.AnyTrack = (what) => (what === "atclid" ? id : undefined);
    if (isReplacing) for (const link of document.links) link.href = link.getAttribute("href").replace("${TOKEN}", id);
  };
</script>`;
const AT = "aB3dE6gH9jK2mN5pQ8rS1tU4";
const notes = async (stage) => (await postsSoFar(stage)).map(({ a }) => a).filter(Boolean);

scene("AnyTrack beside us comes late: our ID is in the link, its own is noted once", async ({ web, page }) => {
  web.alterScript = wrap("anytrack", { z: 0 });
  web.page("/", `${ANYTRACK}${web.tag}<a href="${web.pay()}">Buy</a>`);
  const id = await openReady(page, web.shop());
  await assertStamped(page, "a", "href", web.pay(), id);
  assert.deepEqual(await notes({ web, page }), []);
  await page.evaluate((at) => arrive(at, true), AT);
  await assertStamped(page, "a", "href", web.pay(), id);
  await web.posts.until(({ a }) => a === AT);
  await page.click("a");
  assert.equal(referenceOf(await web.payments.next()), id);
  const told = web.posts.all.filter(({ a }) => a);
  assert.deepEqual(told.map(({ i, a }) => [i, a]), [[id, AT]]);
});

scene("AnyTrack beside us comes first: its reference stays in the link, and is noted at the click", async ({ web, page }) => {
  let release;
  web.holdScript = new Promise((resolve) => (release = resolve));
  web.alterScript = wrap("anytrack", { z: 0 });
  web.page("/", `${ANYTRACK}${web.lateTag}<a href="${web.pay()}">Buy</a>`);
  await goto(page, web.shop());
  const inLink = `${AT}xyz`;
  await page.evaluate((at) => arrive(at, true), inLink);
  release();
  const id = await ready(page);
  assert.equal(await attribute(page, "a", "href"), web.pay(inLink));
  await page.evaluate((at) => arrive(at), AT);
  await page.click("a");
  assert.equal(referenceOf(await web.payments.next()), inLink);
  await web.posts.until(({ a }) => a === inLink);
  assert.ok(web.posts.all.filter(({ a }) => a).every(({ i }) => i === id));
});

scene("AnyTrack first, by the owner's wish: placeholders are left to it, then the rest is stamped; a click stamps at once", async ({ web, page }) => {
  web.alterScript = wrap("anytrack", { y: 1 });
  web.page("/", `${ANYTRACK}${web.tag}<a href="${web.pay()}">Buy</a><form action="${web.pay()}"></form><div id="host"></div>`);
  const id = await openReady(page, web.shop());
  assert.equal(await attribute(page, "a", "href"), web.pay());
  await page.evaluate((at) => arrive(at, true), AT);
  await page.waitForFunction((href) => document.querySelector("form").getAttribute("action") === href, {}, web.pay(id));
  assert.equal(await attribute(page, "a", "href"), web.pay(AT), "AnyTrack had it");
  // Blocked: a click does not wait for it.
  await goto(page, web.shop());
  await ready(page);
  assert.equal(await attribute(page, "a", "href"), web.pay());
  await page.click("a");
  assert.equal(referenceOf(await web.payments.next()), id);
});

scene("H77 withdrawn while the post is under way: the answer brings no cookie back", async ({ web, page }) => {
  let answer;
  web.holdPosts = new Promise((resolve) => (answer = resolve));
  web.page("/", `${web.tag.replace("main.js", "main.js?nc=1")}<a href="${web.pay()}">Buy</a>`);
  await goto(page, web.shop(), { waitUntil: "load" });
  await page.evaluate(() => clickstamp("consent", true));
  await web.posts.next();
  await page.evaluate(() => {
    window.answered = new Promise((resolve) =>
      new PerformanceObserver((list) => list.getEntries().some(({ name }) => /\/v(\?|$)/.test(name)) && resolve()).observe({ type: "resource" }),
    );
    clickstamp("consent", false);
  });
  answer();
  await page.evaluate(() => window.answered);
  await page.waitForFunction(() => document.cookie === "");
  await assertSilent({ web, page });
});

scene("F59 F60 auto mode: a plain payment link gets the reference, an empty one is filled, one of its own stays", async ({ web, page }) => {
  const bare = web.url("buy.stripe", "/abc");
  const look = web.url("other", `/?u=${bare}`);
  web.page("/off", `${web.tag}<a id="bare" href="${bare}">Buy</a>`);
  await openReady(page, web.shop("/off"));
  assert.equal(await attribute(page, "#bare", "href"), bare, "off");
  web.alterScript = wrap("auto", { h: "^https?://buy\\.stripe\\.localhost(:\\d+)?/", u: 1 });
  web.page("/", `${web.tag}<a id="bare" href="${bare}?a=1#f">Buy</a><a id="test" href="${web.url("buy.stripe", "/test_abc")}">Buy</a><a id="look" href="${look}">Look</a><a id="empty" href="${web.pay("")}">Buy</a><a id="own" href="${web.pay("mine")}">Buy</a>
    <stripe-buy-button publishable-key="pk_1"></stripe-buy-button>`);
  const id = await openReady(page, web.shop());
  await page.waitForSelector("[client-reference-id]");
  assert.equal(await attribute(page, "#bare", "href"), `${bare}?a=1&client_reference_id=${id}#f`);
  assert.equal(await attribute(page, "#test", "href"), web.url("buy.stripe", `/test_abc?client_reference_id=${id}`));
  assert.equal(await attribute(page, "#look", "href"), look);
  assert.equal(await attribute(page, "#empty", "href"), web.pay(id));
  assert.equal(await attribute(page, "#own", "href"), web.pay("mine"));
  assert.equal(await attribute(page, "stripe-buy-button", "client-reference-id"), id);
});

const LINKED = { d: "^https?://([^/]+\\.)?(shop|other)\\.localhost(:\\d+)?/" };

scene("I80 a link to a linked domain gets click ID and time when it is used, and not before; other hosts never", async ({ web, page }) => {
  const [there, stranger] = [web.url("other", "/there?a=1#b"), web.url("stranger", "/there")];
  web.page("/", `${web.tag}<a id="there" href="${there}">Go</a><a id="stranger" href="${stranger}">Go</a><a id="own" href="/there">Go</a>
    <script>addEventListener("click", (event) => event.preventDefault())</script>`);
  web.alterScript = wrap("linked", LINKED);
  const id = await openReady(page, web.shop());
  assert.equal(await attribute(page, "#there", "href"), there);
  for (const link of ["#stranger", "#own", "#there"]) await page.click(link);
  assert.equal(await attribute(page, "#stranger", "href"), stranger);
  assert.equal(await attribute(page, "#own", "href"), "/there");
  const [, at] = (await attribute(page, "#there", "href")).match(`^${web.url("other", "/there")}\\?_ck=${id}\\.(\\d+)&a=1#b$`) ?? [];
  assert.ok(Math.abs(at - Date.now() / 1000) < 60, await attribute(page, "#there", "href"));
  // Used again, it has one parameter still.
  await page.click("#there");
  assert.equal((await attribute(page, "#there", "href")).split("_ck=").length, 2);
});

for (const isStripped of [false, true])
  scene(`I81 a linked domain adopts the ID, ${isStripped ? "though a router stripped the address before the tag came" : "takes it from the address"}, and names the stored one`, async ({ web, page }) => {
    const strips = `<script>if (location.search) history.replaceState({ route: 1 }, "", "/there?a=1")</script>`;
    web.page("/", `${web.tag}<a href="${web.url("other", "/there?a=1")}">Go</a>`);
    web.page("/there", `${isStripped ? strips : ""}${web.tag}<a href="${web.pay()}">Buy</a>`);
    web.alterScript = wrap("linked", LINKED);
    const stored = await openReady(page, web.url("other", "/there"));
    const id = await openReady(page, web.shop());
    assert.notEqual(id, stored);
    await page.click("a");
    await arrivedAt(page, "/there");
    assert.equal(await ready(page), id);
    assert.equal(page.url(), web.url("other", "/there?a=1"));
    assert.equal(await cookie(page, "_ck"), id);
    await assertStamped(page, "a", "href", web.pay(), id);
    const { i, p, f } = (await postsSoFar({ web, page })).at(-1);
    assert.deepEqual([i, p, f & 4], [id, stored, 4]);
  });
