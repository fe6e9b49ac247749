// Pages that break, forbid or change the functions that the tag uses, in a real browser: overridden functions and
// prototypes, blocked storage, sandboxes, policies, endless and broken URLs. Checks the links and where they lead:
// nothing is thrown or logged, links stay unchanged except for the placeholder, and every click arrives.

import assert from "node:assert/strict";
import { CLICK_ID, TOKEN, assertStamped, attribute, goto, openReady, ready, referenceOf, scene } from "./lib/scene.mjs";

const THROW = `const refuse = () => { throw new Error("refused by the page") }; const throwing = { get: refuse, set: refuse, configurable: true };`;

/** What is broken, how, and whether links can be stamped and the visit be reported all the same. */
const PAGES = [
  ["JSON.stringify throws", `JSON.stringify = refuse`, { posts: false }],
  ["JSON is gone", `window.JSON = undefined`, { posts: false }],
  ["fetch throws", `window.fetch = refuse`, { posts: false }],
  ["fetch gives nothing", `window.fetch = () => {}`, { posts: false }],
  ["fetch gives a promise that fails", `window.fetch = () => Promise.reject(new Error("no"))`, { posts: false }],
  ["fetch is gone", `delete window.fetch`, { posts: false }],
  ["localStorage throws", `Object.defineProperty(window, "localStorage", throwing)`],
  ["localStorage is null", `Object.defineProperty(window, "localStorage", { value: null })`],
  ["cookies throw", `Object.defineProperty(document, "cookie", throwing)`],
  ["cookies and localStorage throw", `Object.defineProperty(window, "localStorage", throwing); Object.defineProperty(document, "cookie", throwing)`],
  ["prototypes have more members", `for (const type of [Object, Array, String, Function, RegExp]) type.prototype.extra = refuse`],
  ["all objects have the names of settings", `for (const name of "aehiklmoqstuy") Object.prototype[name] = name`],
  ["prototypes say how to be JSON", `for (const type of [Array, String, Number]) type.prototype.toJSON = function () { return "page's own" }`, {}],
  ["all objects say how to be JSON, and throw", `Object.prototype.toJSON = refuse`, { posts: false }],
  ["all objects have a getter that throws", `for (const name of ["signal", "headers"]) Object.defineProperty(Object.prototype, name, throwing)`, { posts: false }],
  ["Array.prototype.map throws", `Array.prototype.map = refuse`, { stamps: false, posts: false }],
  ["Array.prototype.filter throws", `Array.prototype.filter = refuse`, { stamps: false, posts: false }],
  ["String.prototype.replace throws", `String.prototype.replace = refuse`, { stamps: false }],
  ["String.prototype.replace gives nothing", `String.prototype.replace = () => ""`, { stamps: false }],
  ["String.prototype.split throws", `String.prototype.split = refuse`, { stamps: false, posts: false }],
  ["RegExp.prototype.exec throws", `RegExp.prototype.exec = refuse`, { stamps: false, posts: false }],
  ["Element.prototype.setAttribute throws", `Element.prototype.setAttribute = refuse`, { stamps: false }],
  ["Element.prototype.getAttribute throws", `Element.prototype.getAttribute = refuse`, { stamps: false }],
  ["Element.prototype.matches throws", `Element.prototype.matches = refuse`, { stamps: false }],
  ["document.querySelectorAll throws", `document.querySelectorAll = refuse`, { stamps: false, posts: false }],
  ["addEventListener throws", `EventTarget.prototype.addEventListener = refuse`],
  ["MutationObserver is gone", `delete window.MutationObserver`],
  ["performance tells nothing", `performance.getEntriesByType = refuse`],
  ["the clock is broken", `Date.now = () => "soon"`],
  ["there are no random numbers", `Object.defineProperty(window, "crypto", { value: undefined })`],
  ["CustomEvent is gone", `delete window.CustomEvent`],
  ["the name is taken, for good", `Object.defineProperty(window, "clickstamp", { value: () => {} })`],
  ["the queue is no list", `window.clickstamp = Object.assign(() => {}, { q: 7 })`],
  ["a queued call throws", `window.clickstamp = () => {}; clickstamp.q = [["ready", refuse], ["scan", { querySelectorAll: refuse }], [{ toString: refuse }]]`],
];

for (const [name, script, { stamps = true, posts = true, console } = {}] of PAGES)
  scene(`bad input: ${name}: ${stamps ? "stamped" : "left as it is"}, nothing thrown`, async ({ web, page }) => {
    const own = `${web.pay("mine")}&b=%zz%E0%A4&a=é`;
    // The page says with a picture that the tag's script is through; everything else may be broken.
    const tag = web.tag.replace("async", `async onload="new Image().src = '${web.url("go.shop", web.markPath)}'"`);
    web.page("/", `<a id="pay" href="${web.pay()}&b=%zz#%">Buy</a><a id="own" href="${own}">Own</a><a id="odd" href="mailto:a%40b?x=%">Mail</a>
      <script>${THROW} ${script}</script>${tag}`);
    await goto(page, web.shop("/?gclid=one&bad=%zz"));
    await web.posts.until(({ isMark }) => isMark);
    if (posts && web.posts.all.every(({ isMark }) => isMark)) await web.posts.next();
    const [pay, ...others] = await page.evaluate(() => [document.links[0].href, document.links[1].attributes.href.value, document.links[2].attributes.href.value]);
    assert.deepEqual(others, [own, "mailto:a%40b?x=%"], "links that are not ours to touch");
    const [, reference] = /client_reference_id=(.*)&b=%zz#%$/.exec(pay) ?? [];
    if (stamps) assert.match(reference, CLICK_ID);
    else assert.equal(reference, TOKEN);
    await page.click("#pay");
    const arrived = referenceOf((await web.payments.next()).replace("%zz", ""));
    // What could not be stamped at once may be at the click; nothing else can come of it.
    if (arrived !== TOKEN || stamps) assert.match(arrived, CLICK_ID);
    assert.equal(web.posts.all.some(({ isMark }) => !isMark), posts, "reported");
  }, { console, webKitCannot: "its driver runs in the page, with what the page has broken" });

for (const [name, sandbox] of [["scripts alone", "allow-scripts"], ["scripts and forms", "allow-scripts allow-forms allow-popups"]])
  scene(`bad input: a sandboxed frame with ${name}: no storage, no cookies, and the link inside is stamped`, async ({ web, page }) => {
    web.page("/", `<iframe sandbox="${sandbox}" src="/inner"></iframe>`);
    web.page("/inner", `${web.tag}<a href="${web.pay()}">Buy</a><script>
      window.caught = [() => localStorage.x, () => document.cookie].map((look) => { try { look(); return "" } catch ({ name }) { return name } })</script>`);
    await goto(page, web.shop());
    const frame = page.frames().find((frame) => frame.url() === web.shop("/inner")) ?? (await page.waitForFrame(web.shop("/inner")));
    const id = await ready(frame);
    assert.deepEqual(await frame.evaluate(() => window.caught), ["SecurityError", "SecurityError"]);
    await assertStamped(frame, "a", "href", web.pay(), id);
    assert.equal((await web.posts.next()).i, id);
    await frame.$eval("a", (link) => link.click());
    assert.equal(referenceOf(await web.payments.next()), id);
  });

scene("bad input: an element of the page has the tag's name: it is no other tag, and the tag works", async ({ web, page }) => {
  web.page("/", `<section id="clickstamp"><a href="${web.pay()}">Buy</a></section>${web.tag}`);
  await goto(page, web.shop());
  const { i: id } = await web.posts.next();
  await assertStamped(page, "a", "href", web.pay(), id);
  assert.equal(await ready(page), id);
});

scene("bad input: a form of the page has the tag's name, and fields named like its members", async ({ web, page }) => {
  web.page("/", `<form name="clickstamp"><input name="call"><input name="id"><input name="q"></form><a href="${web.pay()}">Buy</a>${web.tag}`);
  await goto(page, web.shop());
  const { i: id } = await web.posts.next();
  await assertStamped(page, "a", "href", web.pay(), id);
  assert.equal(await ready(page), id);
});

scene("bad input: a page that is sandboxed by its policy: stamped and reported, though it has no origin", async ({ web, page }) => {
  web.page("/", `${web.tag}<a href="${web.pay()}">Buy</a>`, { "content-security-policy": "sandbox allow-scripts" });
  const id = await openReady(page, web.shop("/?gclid=one"));
  assert.equal(await page.evaluate(() => window.origin), "null");
  await assertStamped(page, "a", "href", web.pay(), id);
  assert.equal((await web.posts.next()).i, id);
  await page.click("a");
  assert.equal(referenceOf(await web.payments.next()), id);
});

scene("bad input: trusted types refuse an inline handler: it keeps the placeholder, everything else is stamped, and its way out too", async ({ web, page }) => {
  web.page("/", `<b onclick="location.href = '${web.pay()}'">Buy</b><a href="${web.pay()}">Buy</a>${web.tag}`, {
    "content-security-policy": "require-trusted-types-for 'script'; trusted-types 'none'",
  });
  const id = await openReady(page, web.shop());
  await assertStamped(page, "a", "href", web.pay(), id);
  const handler = await attribute(page, "b", "onclick");
  assert.match(handler, new RegExp(`${TOKEN}|${id}`));
  await page.click("b");
  assert.equal(referenceOf(await web.payments.next()), id);
}, { console: [/TrustedScript|Trusted ?Types?|require-trusted-types-for/i], webKitCannot: "the engine has no Navigation API; a redirect link serves there" });

scene("bad input: an isolated page without credentials (COEP credentialless)", async ({ web, page }) => {
  web.page("/", `${web.tag}<a href="${web.pay()}">Buy</a>`, { "cross-origin-embedder-policy": "credentialless", "cross-origin-opener-policy": "same-origin" });
  const id = await openReady(page, web.shop());
  await assertStamped(page, "a", "href", web.pay(), id);
  assert.equal((await web.posts.next()).i, id);
});

scene("bad input: links of 8 kB, with the placeholder at their end: stamped, and nothing else of them changes", async ({ web, page }) => {
  const filling = "y%zz&%F0%9F=é+%2B".repeat(480);
  const long = `${web.url("buy.stripe", "/abc")}?x=${filling}&client_reference_id=${TOKEN}#${"z".repeat(100)}`;
  const own = long.replace(TOKEN, "mine");
  assert.ok(long.length > 8000);
  web.page("/", `<a id="pay" href="${long}">Buy</a><a id="own" href="${own}">Buy</a>${web.tag}`);
  const id = await openReady(page, web.shop());
  await assertStamped(page, "#pay", "href", long, id);
  assert.equal(await attribute(page, "#own", "href"), own);
  await page.click("#pay");
  assert.match(await web.payments.next(), new RegExp(`&client_reference_id=${id}$`));
});

scene("bad input: broken percent-encoding in the page's address, its links and its routes", async ({ web, page }) => {
  const links = ["%", "%zz", "%E0%A4%A", "%c3%28", "%2D%2", "%%2D%2DCLICK-ID"].map((odd) => `${web.pay()}&x=${odd}#${odd}`);
  web.page("/", `${links.map((href) => `<a href="${href}">Buy</a>`).join("")}${web.tag}`);
  const first = await openReady(page, web.shop("/?gclid=%E0%A4%A&utm_source=%&x=%zz#%c3%28"));
  const hrefs = () => page.$$eval("a", (all) => all.map((link) => link.getAttribute("href")));
  assert.deepEqual(await hrefs(), links.map((href) => href.replace(TOKEN, first)));
  assert.equal((await web.posts.next()).u, web.shop("/?gclid=%E0%A4%A&utm_source=%&x=%zz#%c3%28"));
  await page.evaluate(() => history.pushState(null, "", "/%zz?gclid=%ff%zz#%"));
  await page.waitForFunction((first) => clickstamp.id !== first, {}, first);
  const second = await ready(page);
  assert.deepEqual(await hrefs(), links.map((href) => href.replace(TOKEN, second)));
  assert.equal((await web.posts.next()).u, web.shop("/%zz?gclid=%ff%zz#%"));
}, { webKitCannot: "the engine has no Navigation API, so a new route alone tells it nothing" });

const guarded = (web, answer) => `<main><a id="pay" href="${web.pay()}">Buy</a></main>
  <script>const own = "${web.pay()}"; new MutationObserver(() => { ${answer} }).observe(document, { subtree: true, childList: true, attributes: true })</script>${web.tag}`;

scene("a script that always puts its own link back: the page goes on, and the click has the ID", async ({ web, page }) => {
  web.page("/", guarded(web, `if (pay.getAttribute("href") !== own) pay.setAttribute("href", own)`));
  const id = await openReady(page, web.shop());
  await page.click("#pay");
  assert.equal(referenceOf(await web.payments.next()), id);
}, { webKitCannot: "it has no Navigation API, so a link that is put back leads away as it is" });

scene("a script that always answers with a new link: the page goes on", async ({ web, page }) => {
  web.page("/", guarded(web, `const { pay } = window;
    if (pay.getAttribute("href") !== own) { const other = pay.cloneNode(); other.setAttribute("href", own); pay.replaceWith(other) }`));
  const id = await openReady(page, web.shop());
  assert.equal(await page.evaluate(() => new Promise((done) => setTimeout(() => done(window.clickstamp.id)))), id);
});

scene("a copy of the page that was saved with another visitor's click ID gets this visitor's", async ({ web, page }) => {
  web.page("/", web.tag + `<a href="${web.pay("ck_" + "b".repeat(33))}">Buy</a>`);
  const id = await openReady(page, web.shop());
  await assertStamped(page, "a", "href", web.pay(), id);
});
