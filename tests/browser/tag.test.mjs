// The tag in a real browser, on real pages.
// In: pages of a small shop, a tag host that behaves or not. Out: what the visitor's link says, what arrives at Stripe and at the tag host.
// Promise: whatever the page or the tag host does, the console stays empty and the link works. Each test names its row of the acceptance list.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launchBrowser, nextTab, openVisitor } from "./lib/browser.mjs";
import { openWeb } from "./lib/web.mjs";

const CLICK_ID = /^ck_[a-z0-9]{29,37}$/;
const TOKEN = "--CLICK-ID--";

let browser;
before(async () => (browser = await launchBrowser()));
after(() => browser?.close());

/** One visitor in front of a web of his own. `console` lists what the browser itself must say; nothing else may be said. */
const scene = (name, play, { console: expected = [] } = {}) =>
  test(name, { timeout: 30_000 }, async () => {
    const web = await openWeb();
    const visitor = await openVisitor(browser);
    try {
      const page = await visitor.openPage();
      await play({ web, visitor, page });
      for (const text of expected) assert.ok(visitor.said.some((said) => text.test(said)), `not said: ${text}, but ${visitor.said}`);
      const unexpected = visitor.said.filter((said) => !expected.some((text) => text.test(said)));
      assert.deepEqual(unexpected, [], "the console stays empty");
    } finally {
      await visitor.close();
      web.close();
    }
  });

const goto = (page, url, options) => page.goto(url, { waitUntil: "domcontentloaded", ...options });
const ready = async (page) => (await page.waitForFunction(() => window.clickstamp?.id)).jsonValue();
const openReady = async (page, url, options) => {
  await goto(page, url, options);
  return ready(page);
};
const attribute = (page, selector, name) => page.$eval(selector, (element, name) => element.getAttribute(name), name);
const cookie = (page, name) =>
  page.evaluate((name) => document.cookie.match(`(?:^|; )${name}=([^;]*)`)?.[1], name);
/** Everything posted up to now: an event is sent and waited for, and is not part of the answer. */
const postsSoFar = async ({ web, page }) => {
  await page.evaluate(() => clickstamp("event", "so far"));
  for (;;) if ((await web.posts.next()).e === "so far") return web.posts.all.filter(({ e }) => !e);
};
/** Puts the last activity this many minutes back. */
const age = (page, minutes) =>
  page.evaluate((seconds) => {
    const aged = localStorage._ck_s.replace(/\d+$/, (at) => at - seconds);
    localStorage._ck_s = aged;
    document.cookie = `_ck_s=${aged};path=/;max-age=99999;domain=shop.localhost`;
  }, minutes * 60);
const referenceOf = (url) => new URL(url, "http://any").searchParams.get("client_reference_id");
/** The click ID is in the link, as it would be sent. */
const assertStamped = async (page, selector, name, before, id) =>
  assert.equal(await attribute(page, selector, name), before.replaceAll(TOKEN, id), `${selector} ${name}`);

// ---- A. Loading and safety ----

scene("A1 tag in the head: the ID is well formed and equals the cookie", async ({ web, page }) => {
  web.page("/", `${web.tag}<a href="${web.pay()}">Buy</a>`);
  const id = await openReady(page, web.shop());
  assert.match(id, CLICK_ID);
  assert.equal(await cookie(page, "_ck"), id);
  await assertStamped(page, "a", "href", web.pay(), id);
});

scene("A2 tag at the end of the body", async ({ web, page }) => {
  web.page("/", `<body><a href="${web.pay()}">Buy</a>${web.tag}`);
  await assertStamped(page, "a", "href", web.pay(), await openReady(page, web.shop()));
});

scene("A3 tag inserted by script", async ({ web, page }) => {
  const src = web.url("go.shop", "/t/main.js");
  web.page("/", `<a href="${web.pay()}">Buy</a><script>document.head.append(Object.assign(document.createElement("script"), { src: "${src}" }))</script>`);
  await assertStamped(page, "a", "href", web.pay(), await openReady(page, web.shop()));
});

scene("A4 the same tag twice: one post, one ID", async ({ web, page }) => {
  web.page("/", `${web.tag}${web.tag}`);
  await goto(page, web.shop(), { waitUntil: "load" });
  const id = await ready(page);
  assert.equal(web.tagRequests.filter(({ method }) => method === "GET").length, 2);
  assert.deepEqual((await postsSoFar({ web, page })).map(({ i }) => i), [id]);
});

const BROKEN = [
  ["500", (response) => response.writeHead(500).end("oops"), [/500/]],
  ["an HTML page with 404", (response) => response.writeHead(404, { "content-type": "text/html", "x-content-type-options": "nosniff" }).end("<h1>404</h1>"), [/404/, /MIME type/]],
  ["nothing at all", () => {}, []],
  ["a cut connection", (response) => response.destroy(), [/ERR_EMPTY_RESPONSE/]],
];
for (const [name, answer, console] of BROKEN)
  scene(`A6 the tag host answers ${name}: the page works, the link is unchanged`, async ({ web, page }) => {
    web.answerScript = answer;
    web.page("/", `${web.tag}<a href="${web.pay()}">Buy</a>`);
    await goto(page, web.shop(), { waitUntil: name === "nothing at all" ? "domcontentloaded" : "load" });
    await page.click("a");
    assert.equal(referenceOf(await web.payments.next()), TOKEN);
  }, { console });

scene("A6 the tag host refuses the connection: the page works, the link is unchanged", async ({ web, page }) => {
  const closed = await openWeb();
  closed.close();
  web.page("/", `${closed.tag}<a href="${web.pay()}">Buy</a>`);
  await goto(page, web.shop(), { waitUntil: "load" });
  await page.click("a");
  assert.equal(referenceOf(await web.payments.next()), TOKEN);
}, { console: [/ERR_CONNECTION_REFUSED/] });

scene("A7 script cut in the middle: no effect on the page", async ({ web, page }) => {
  web.alterScript = (text) => text.slice(0, text.length / 2);
  web.page("/", `${web.tag}<a href="${web.pay()}">Buy</a>`);
  await goto(page, web.shop(), { waitUntil: "load" });
  assert.equal(await page.evaluate(() => "clickstamp" in window), false);
  await page.click("a");
  assert.equal(referenceOf(await web.payments.next()), TOKEN);
}, { console: [/^uncaught: (Invalid|Unexpected|missing)/] });

scene("A9 a strict policy without the tag host in connect-src: stamping works, only the post is refused", async ({ web, page }) => {
  const host = web.url("go.shop", "");
  web.page("/", `${web.tag}<a href="${web.pay()}">Buy</a>`, {
    "content-security-policy": `script-src ${host}; connect-src 'self'; style-src 'none'`,
  });
  const id = await openReady(page, web.shop());
  await assertStamped(page, "a", "href", web.pay(), id);
  await page.waitForFunction(() => localStorage._ck_q);
  assert.equal(JSON.parse(await page.evaluate(() => localStorage._ck_q)).i, id);
}, { console: [/connect-src/] });

// ---- B. ID and caching ----

scene("B19 two fresh visitors get different IDs", async ({ web, page }) => {
  web.page("/", web.tag);
  const other = await openVisitor(browser);
  assert.notEqual(await openReady(page, web.shop()), await openReady(await other.openPage(), web.shop()));
  assert.deepEqual(other.said, []);
  await other.close();
});

scene("B20 the same visitor on a second page keeps the ID", async ({ web, page }) => {
  web.page("/", web.tag);
  web.page("/offer", web.tag);
  const id = await openReady(page, web.shop());
  assert.equal(await openReady(page, web.shop("/offer")), id);
  assert.equal((await postsSoFar({ web, page })).length, 1);
});

scene("B22 a copy of the script 10 minutes old gives two visitors two IDs, neither the baked one", async ({ web, page }) => {
  let baked, copy;
  web.alterScript = (text) => {
    copy ??= text.replace(/"t":(\d+)/, (_, t) => `"t":${t - 600}`);
    baked = /"i":"(\w+)"/.exec(copy)[1];
    return copy;
  };
  web.page("/", web.tag);
  const other = await openVisitor(browser);
  const ids = [await openReady(page, web.shop()), await openReady(await other.openPage(), web.shop())];
  await other.close();
  assert.equal(new Set([...ids, baked]).size, 3);
  for (const id of ids) assert.match(id, /^ck_z[a-z0-9]{32}$/);
});

// ---- C. Cookies ----

scene("C27 cookie attributes", async ({ web, page, visitor }) => {
  web.page("/", web.tag);
  const id = await openReady(page, web.shop());
  await web.posts.next();
  const jar = await visitor.context.cookies();
  assert.deepEqual(jar.map(({ name }) => name).sort(), ["_ck", "_ck_s"]);
  for (const { name, value, domain, path, sameSite, httpOnly, secure, expires } of jar) {
    assert.deepEqual({ domain, path, sameSite, httpOnly, secure }, { domain: ".shop.localhost", path: "/", sameSite: "Lax", httpOnly: false, secure: false });
    assert.ok(Math.abs(expires - Date.now() / 1000 - 34_560_000) < 60, `${name} lives for 400 days`);
    if (name === "_ck") assert.equal(value, id);
  }
});

scene("C29 another subdomain has the same ID", async ({ web, page }) => {
  web.page("/", web.tag);
  const id = await openReady(page, web.shop());
  assert.equal(await openReady(page, web.url("app.shop")), id);
});

scene("C31 cookies deleted, localStorage left: the same ID again", async ({ web, page, visitor }) => {
  web.page("/", web.tag);
  const id = await openReady(page, web.shop());
  await visitor.context.deleteCookie(...(await visitor.context.cookies()));
  assert.equal(await openReady(page, web.shop()), id);
  assert.equal(await cookie(page, "_ck"), id);
});

// ---- D. New clicks ----

scene("D33 gclid landing and reload: one ID, one visit", async ({ web, page }) => {
  web.page("/", web.tag);
  const id = await openReady(page, web.shop("/?gclid=one"));
  await page.reload({ waitUntil: "domcontentloaded" });
  assert.equal(await ready(page), id);
  assert.deepEqual((await postsSoFar({ web, page })).map(({ i, p }) => [i, p]), [[id, undefined]]);
});

scene("D34 a new gclid in the same session: a new ID that names the one before", async ({ web, page }) => {
  web.page("/", web.tag);
  const first = await openReady(page, web.shop("/?gclid=one"));
  const second = await openReady(page, web.shop("/?gclid=two"));
  assert.notEqual(second, first);
  assert.deepEqual((await postsSoFar({ web, page })).map(({ i, p }) => [i, p]), [[first, undefined], [second, first]]);
});

for (const [row, what, tail, isNew] of [
  ["D35", "UTM only", "/?utm_source=news", true],
  ["D36", "an empty gclid", "/?gclid=", false],
  ["D41", "hash parameters", "/#utm_source=x", true],
])
  scene(`${row} ${what}: ${isNew ? "a new ID" : "the same ID"}`, async ({ web, page }) => {
    web.page("/", web.tag);
    web.page("/first", web.tag);
    const first = await openReady(page, web.shop("/first"));
    const second = await openReady(page, web.shop(tail));
    assert.equal(second !== first, isNew);
    const posts = await postsSoFar({ web, page });
    assert.equal(posts.length, isNew ? 2 : 1);
    if (isNew) assert.equal(posts[1].u, web.shop(tail));
  });

scene("D37 a direct return after 31 minutes: the same ID, a new visit", async ({ web, page }) => {
  web.page("/", web.tag);
  const id = await openReady(page, web.shop("/?gclid=one"));
  await age(page, 31);
  assert.equal(await openReady(page, web.shop()), id);
  assert.deepEqual((await postsSoFar({ web, page })).map(({ i, p }) => [i, p]), [[id, undefined], [id, id]]);
});

for (const [minutes, isNew] of [[31, true], [5, false]])
  scene(`D38 from a search engine after ${minutes} minutes: ${isNew ? "a new ID" : "the same ID"}`, async ({ web, page }) => {
    web.page("/", web.tag);
    const first = await openReady(page, web.shop());
    await age(page, minutes);
    const second = await openReady(page, web.shop("/?page=2"), { referer: "https://www.google.com/", referrerPolicy: "unsafeUrl" });
    assert.equal(second !== first, isNew);
    const posts = await postsSoFar({ web, page });
    assert.equal(posts.length, isNew ? 2 : 1);
    if (isNew) assert.equal(posts[1].r, "https://www.google.com/");
  });

scene("D42 a router strips the query before a late tag: the gclid is still recorded", async ({ web, page }) => {
  let release;
  web.holdScript = new Promise((resolve) => (release = resolve));
  web.page("/", `${web.tag}<script>history.replaceState(null, "", "/offer")</script>`);
  await goto(page, web.shop("/?gclid=one#top"));
  assert.equal(await page.evaluate(() => location.href), web.shop("/offer"));
  release();
  await ready(page);
  assert.equal((await web.posts.next()).u, web.shop("/?gclid=one#top"));
});

// ---- E. The visit's post ----

scene("E44 E48 E50 one simple request of type fetch, small, text/plain, valid JSON", async ({ web, page }) => {
  const types = [];
  page.on("request", (request) => request.method() !== "GET" && types.push([request.method(), request.resourceType()]));
  web.page("/", web.tag);
  const id = await openReady(page, web.shop("/?gclid=one&utm_source=x&utm_campaign=spring"));
  const post = await web.posts.next();
  assert.equal(post.i, id);
  assert.equal(post.s, "main");
  assert.ok(Math.abs(post.t - Date.now()) < 60_000);
  assert.ok(post.bytes < 1536);
  assert.match(post.headers["content-type"], /^text\/plain/);
  assert.deepEqual((await postsSoFar({ web, page })).length, 1);
  assert.deepEqual(new Set(types.map(String)), new Set(["POST,fetch"]));
  assert.deepEqual(web.tagRequests.filter(({ method }) => method === "OPTIONS"), []);
});

scene("E45 tab closed right away: the post arrives", async ({ web, page, visitor }) => {
  let answer;
  web.holdPosts = new Promise((resolve) => (answer = resolve));
  web.page("/", web.tag);
  const closing = await visitor.openPage();
  const id = await openReady(closing, web.shop());
  await closing.close();
  assert.equal((await web.posts.next()).i, id);
  answer();
  assert.equal(page.isClosed(), false);
});

scene("E46 no network for the post: kept, and sent once on the next load", async ({ web, page }) => {
  web.page("/", web.tag);
  web.dropPosts = true;
  const id = await openReady(page, web.shop("/?gclid=one"));
  await page.waitForFunction(() => localStorage._ck_q);
  const kept = await page.evaluate(() => localStorage._ck_q);
  web.dropPosts = false;
  await openReady(page, web.shop());
  const posts = await postsSoFar({ web, page });
  assert.deepEqual(posts.map(({ i, u }) => [i, u]), [[id, web.shop("/?gclid=one")]]);
  assert.equal(web.tagRequests.filter(({ body }) => body === kept).at(-1).body, kept);
  await openReady(page, web.shop());
  assert.equal((await postsSoFar({ web, page })).length, 1);
}, { console: [/ERR_(EMPTY_RESPONSE|CONNECTION_RESET)/] });

scene("E47 the server is slow: the click is not delayed", async ({ web, page }) => {
  let answer;
  web.holdPosts = new Promise((resolve) => (answer = resolve));
  web.page("/", `${web.tag}<a href="${web.pay()}">Buy</a>`);
  const id = await openReady(page, web.shop());
  await page.click("a");
  assert.equal(referenceOf(await web.payments.next()), id, "arrived while the post still waits for its answer");
  answer();
});

scene("E49 the post has URL, referrer, previous ID and the ad cookies", async ({ web, page, visitor }) => {
  web.page("/", web.tag);
  const first = await openReady(page, web.shop());
  await web.posts.next();
  for (const [name, value] of [["_fbp", "fb.1.2.3"], ["_fbc", "fb.1.2.abc"], ["_gcl_aw", "GCL.1.x"], ["secret", "no"]])
    await visitor.context.setCookie({ name, value, domain: "www.shop.localhost", path: "/" });
  await openReady(page, web.shop("/?fbclid=abc"), { referer: "https://m.facebook.com/", referrerPolicy: "unsafeUrl" });
  const { u, r, p, k } = await web.posts.next();
  assert.deepEqual([u, r, p], [web.shop("/?fbclid=abc"), "https://m.facebook.com/", first]);
  assert.deepEqual(k.split(",").sort(), ["_fbc=fb.1.2.abc", "_fbp=fb.1.2.3", "_gcl_aw=GCL.1.x"]);
});

// ---- F. Stamping ----

scene("F54 F55 F56 the rest of the URL is identical; every spelling, any parameter, any host", async ({ web, page }) => {
  const links = [
    `${web.pay()}&b=%20+%2B&a=é%zz&amp;c=1#frag?x=1`,
    web.pay("%2D%2DCLICK-ID%2D%2D"),
    web.pay("--click-id--"),
    web.pay(`${TOKEN}&again=${TOKEN}`),
    web.url("other", `/?x=1&sub5=${TOKEN}`),
    `/relative?r=${TOKEN}`,
    web.pay("mine"),
  ];
  web.page("/", `${links.map((href) => `<a href="${href}">Buy</a>`).join("")}`);
  await goto(page, web.shop());
  const before = await page.$$eval("a", (all) => all.map((a) => a.getAttribute("href")));
  web.page("/", `${web.tag}${links.map((href) => `<a href="${href}">Buy</a>`).join("")}`);
  const id = await openReady(page, web.shop());
  assert.deepEqual(
    await page.$$eval("a", (all) => all.map((a) => a.getAttribute("href"))),
    before.map((href) => href.replace(/(--|%2D%2D)CLICK-ID(--|%2D%2D)/gi, id)),
  );
});

scene("F57 every place", async ({ web, page }) => {
  const url = web.pay();
  web.page("/", `
    <map name="m"><area href="${url}"></map><img usemap="#m" alt="">
    <form action="${url}"><input type="hidden" name="ref" value="${TOKEN}"><button formaction="${url}">Buy</button></form>
    <iframe src="${url}"></iframe><p data-href="${url}" data-url="${url}" data-at-value="${TOKEN}"></p>
    <b onclick="window.went = '${url}'">Buy</b><svg><a href="${url}"><text>Buy</text></a></svg>
    <input id="text" value="${TOKEN}"><textarea>${TOKEN}</textarea>${web.tag}`);
  const id = await openReady(page, web.shop());
  for (const [selector, name] of [["area", "href"], ["form", "action"], ["button", "formaction"], ["iframe", "src"], ["p", "data-href"], ["p", "data-url"], ["svg a", "href"]])
    await assertStamped(page, selector, name, url, id);
  await assertStamped(page, "input", "value", TOKEN, id);
  await assertStamped(page, "p", "data-at-value", TOKEN, id);
  assert.equal(await page.$eval("input", (input) => input.value), id);
  await page.click("b");
  assert.equal(await page.evaluate(() => window.went), url.replace(TOKEN, id));
  assert.equal(await page.$eval("#text", (input) => input.value), TOKEN);
  assert.equal(await page.$eval("textarea", (area) => area.value), TOKEN);
  await page.$eval("input", (input, token) => (input.value = token), TOKEN);
  await page.waitForFunction((id) => document.querySelector("input").value === id, {}, id);
});

for (const name of ["stripe-buy-button", "stripe-pricing-table"])
  for (const when of ["before", "after"])
    scene(`F58 ${name}, defined ${when} the tag: its content sees the ID`, async ({ web, page }) => {
      const define = `customElements.define("${name}", class extends HTMLElement {
        connectedCallback() { this.textContent = this.getAttribute("client-reference-id") }
      })`;
      web.page("/", `<${name} client-reference-id="${TOKEN}"></${name}>${when === "before" ? `<script>${define}</script>` : ""}${web.tag}`);
      const id = await openReady(page, web.shop());
      if (when === "after") await page.evaluate(define);
      assert.equal(await page.$eval(name, (element) => element.textContent), id);
      assert.equal((await page.$$(name)).length, 1);
    });

scene("F61 links added later, in every way", async ({ web, page }) => {
  const html = `<a href="${web.pay()}">Buy</a>`;
  web.page("/", `${web.tag}<div id="root"></div><template>${html}</template><script>document.write(${JSON.stringify(html)})</script>`);
  const id = await openReady(page, web.shop());
  const count = await page.evaluate((html) => {
    const root = document.querySelector("#root");
    root.innerHTML = html;
    const link = Object.assign(document.createElement("a"), { href: root.firstChild.getAttribute("href") });
    root.appendChild(link);
    root.append(document.querySelector("template").content.cloneNode(true));
    const list = document.createElement("ul");
    root.append(list);
    for (let round = 0; round < 2; round++)
      list.replaceChildren(...[1, 2, 3].map(() => Object.assign(document.createElement("li"), { innerHTML: html })));
    return document.querySelectorAll("a").length;
  }, html);
  assert.equal(count, 7);
  await page.waitForFunction((id) => [...document.links].every((link) => link.href.endsWith(id)), {}, id);
  await page.$eval("#root a", (link, href) => link.setAttribute("href", href), web.pay());
  await page.waitForFunction((id) => document.querySelector("#root a").href.endsWith(id), {}, id);
});

/** A page whose link is in an open shadow root, so that only its use can stamp it. */
const shadowPage = (web, attributes = "") =>
  web.page("/", `${web.tag}<div id="host"></div><script>
    host.attachShadow({ mode: "open" }).innerHTML = '<a ${attributes} href="${web.pay()}">Buy</a>'</script>`);
const SHADOW_LINK = "#host >>> a";

scene("F62 a link in an open shadow root, on click", async ({ web, page }) => {
  shadowPage(web);
  const id = await openReady(page, web.shop());
  assert.equal(await attribute(page, SHADOW_LINK, "href"), web.pay());
  await page.click(SHADOW_LINK);
  assert.equal(referenceOf(await web.payments.next()), id);
});

for (const [name, go] of [
  ["location.href =", (url) => void (location.href = url)],
  ["location.assign", (url) => location.assign(url)],
  ["location.replace", (url) => location.replace(url)],
  ["a delayed redirect", (url) => void setTimeout(() => (location.href = url))],
  ["a link outside the document", (url) => Object.assign(document.createElement("a"), { href: url }).click()],
])
  scene(`F65 ${name}`, async ({ web, page }) => {
    web.page("/", web.tag);
    const id = await openReady(page, web.shop());
    // The page leaves while the call returns; the arrival is what counts.
    await Promise.allSettled([page.evaluate(go, web.pay())]);
    assert.equal(referenceOf(await web.payments.next()), id);
    assert.equal(web.payments.all.length, 1);
  });

scene("F66 window.open", async ({ web, page, visitor }) => {
  web.page("/", `${web.tag}<button onclick="open('${web.pay().replace("CLICK-ID", "CLICK' + '-ID")}')">Buy</button>`);
  const id = await openReady(page, web.shop());
  await nextTab(visitor, () => page.click("button"));
  assert.equal(referenceOf(await web.payments.next()), id);
});

for (const [name, use, attributes] of [
  ["middle click", (page) => page.click(SHADOW_LINK, { button: "middle" })],
  ["click with the control key", async (page) => {
    await page.keyboard.down("Control");
    await page.click(SHADOW_LINK);
    await page.keyboard.up("Control");
  }],
  ["new tab", (page) => page.click(SHADOW_LINK), 'target="_blank"'],
  ["Enter key", async (page) => {
    await page.focus(SHADOW_LINK);
    await page.keyboard.press("Enter");
  }],
  ["touch", (page) => page.tap(SHADOW_LINK)],
])
  scene(`F68 ${name}`, async ({ web, page }) => {
    if (name === "touch") await page.setViewport({ width: 400, height: 800, hasTouch: true });
    shadowPage(web, attributes);
    const id = await openReady(page, web.shop());
    await use(page);
    assert.equal(referenceOf(await web.payments.next()), id);
  });

scene("F68 copied link: the address is right when the context menu opens", async ({ web, page }) => {
  shadowPage(web);
  const id = await openReady(page, web.shop());
  await page.evaluate(() =>
    addEventListener("contextmenu", (event) => (window.copied = event.composedPath()[0].href), true),
  );
  await page.click(SHADOW_LINK, { button: "right" });
  assert.equal(await page.evaluate(() => window.copied), web.pay(id));
});

// ---- G. Queue, J. Apps ----

scene("G74 calls queued before the tag run in order, once; ready afterwards fires at once", async ({ web, page }) => {
  web.page("/", `<script>window.clickstamp = window.clickstamp || function () { (clickstamp.q = clickstamp.q || []).push(arguments) }
    window.order = [];
    document.addEventListener("clickstamp:ready", (event) => order.push(["event", event.detail]));
    clickstamp("ready", (id) => order.push(["first", id]));
    clickstamp("event", "early", { n: 1 });
    clickstamp("ready", (id) => order.push(["second", id]));
    order.push(["stub", clickstamp("url", "x")]);</script>${web.tag}`);
  const id = await openReady(page, web.shop());
  await page.evaluate(() => clickstamp("ready", (id) => order.push(["late", id])));
  assert.deepEqual(await page.evaluate(() => order), [["stub", null], ["first", id], ["second", id], ["event", id], ["late", id]].map(([a, b]) => [a, b ?? undefined]));
  await web.posts.next();
  const { e, v } = await web.posts.next();
  assert.deepEqual({ e, v }, { e: "early", v: { n: 1 } });
});

scene("J82 routes of a single-page app: new links are stamped, no visit without a new source", async ({ web, page }) => {
  web.page("/", `${web.tag}<main></main>`);
  const id = await openReady(page, web.shop("/?gclid=one"));
  const render = async (route) => {
    await page.evaluate(route);
    await page.$eval("main", (main, href) => (main.innerHTML = `<a href="${href}">Buy</a>`), web.pay());
    await page.waitForFunction((id) => document.querySelector("main a").href.endsWith(id), {}, await ready(page));
  };
  await render(() => history.pushState(null, "", "/offer"));
  await render(() => history.replaceState(null, "", "/offer?page=2"));
  await render(() => (location.hash = "#/cart"));
  await render(() => new Promise((resolve) => {
    addEventListener("popstate", resolve, { once: true });
    history.back();
  }));
  assert.equal(await ready(page), id);
  assert.equal((await postsSoFar({ web, page })).length, 1);

  await page.evaluate(() => history.pushState(null, "", "/offer?gclid=two"));
  const second = await ready(page);
  assert.notEqual(second, id);
  await page.waitForFunction((id) => document.querySelector("main a").href.endsWith(id), {}, second);
  assert.deepEqual((await postsSoFar({ web, page })).map(({ i, p }) => [i, p]), [[id, undefined], [second, id]]);
});
