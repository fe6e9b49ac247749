// The tag in a real browser: loading, click IDs, cookies, new clicks, the visit's post.
// In: pages of a small shop, a tag host that behaves or not. Out: which click ID the visitor has, and what arrives at the tag host.
// Promise: whatever the page or the tag host does, the console stays empty and the link works. Each test names its row of the acceptance list.

import assert from "node:assert/strict";
import { isFirefox, isWebKit, openVisitor, tellsFailures } from "./lib/browser.mjs";
import { CLICK_ID, TOKEN, age, arriveFrom, assertStamped, attribute, browser, cookie, goBack, goto, openReady, postsSoFar, ready, referenceOf, scene } from "./lib/scene.mjs";
import { openWeb } from "./lib/web.mjs";

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
  web.page("/", `${web.tag}${web.tag.replace("main.js", "main.js?again")}`);
  await goto(page, web.shop(), { waitUntil: "load" });
  const id = await ready(page);
  assert.equal(web.tagRequests.filter(({ method }) => method === "GET").length, 2);
  assert.deepEqual((await postsSoFar({ web, page })).map(({ i }) => i), [id]);
});

const BROKEN = [
  ["500", (response) => response.writeHead(500).end("oops"), [/500/]],
  ["an HTML page with 404", (response) => response.writeHead(404, { "content-type": "text/html", "x-content-type-options": "nosniff" }).end("<h1>404</h1>"), [/^uncaught: The resource .* was blocked due to MIME type/]],
  ["nothing at all", () => {}, []],
  ["a cut connection", (response) => response.destroy(), [/ERR_EMPTY_RESPONSE/]],
];
for (const [name, answer, console] of BROKEN)
  scene(`A6 the tag host answers ${name}: the page works, the link is unchanged`, async ({ web, page, visitor }) => {
    web.answerScript = answer;
    web.page("/", `${name === "nothing at all" ? web.lateTag : web.tag}<a href="${web.pay()}">Buy</a>`);
    await goto(page, web.shop(), { waitUntil: name === "nothing at all" ? "domcontentloaded" : "load" });
    // Firefox says nothing of a script that did not come, Chromium nothing of one with the wrong type.
    if (tellsFailures && !name.includes("HTML")) for (const text of console) await visitor.heard(text);
    await page.click("a");
    assert.equal(referenceOf(await web.payments.next()), TOKEN);
  }, { console });

scene("A6 the tag host refuses the connection: the page works, the link is unchanged", async ({ web, page, visitor }) => {
  const closed = await openWeb();
  closed.close();
  web.page("/", `${closed.tag}<a href="${web.pay()}">Buy</a>`);
  await goto(page, web.shop());
  if (tellsFailures) await visitor.heard(/ERR_CONNECTION_REFUSED/);
  await page.click("a");
  assert.equal(referenceOf(await web.payments.next()), TOKEN);
}, { console: [/ERR_CONNECTION_REFUSED/] });

scene("A7 script cut in the middle: no effect on the page", async ({ web, page, visitor }) => {
  web.alterScript = (text) => text.slice(0, text.length / 2);
  web.page("/", `${web.tag}<a href="${web.pay()}">Buy</a>`);
  await goto(page, web.shop());
  await visitor.heard(/SyntaxError|Script error/);
  assert.equal(await page.evaluate(() => "clickstamp" in window), false);
  await page.click("a");
  assert.equal(referenceOf(await web.payments.next()), TOKEN);
}, { console: [/^uncaught: .*(SyntaxError|Script error)/] });

scene("A9 a strict policy without the tag host in connect-src: stamping works, only the post is refused", async ({ web, page, visitor }) => {
  const host = web.url("go.shop", "");
  web.page("/", `${web.tag}<a href="${web.pay()}">Buy</a>`, {
    "content-security-policy": `script-src ${host}; connect-src 'self'; style-src 'none'`,
  });
  const id = await openReady(page, web.shop());
  await assertStamped(page, "a", "href", web.pay(), id);
  await page.waitForFunction(() => localStorage._ck_q);
  assert.equal(JSON.parse(await page.evaluate(() => localStorage._ck_q)).i, id);
  if (!isWebKit) await visitor.heard(/connect-src/);
}, { console: [/connect-src/, /^error: Fetch API cannot load .*Content Security Policy/] });

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

scene("B26 the static variant: one script for two visitors, whose browsers make their IDs", async ({ web, page }) => {
  web.page("/", `${web.tag.replace("main.js", "main.static.js")}<a href="${web.pay()}">Buy</a>`);
  const scripts = new Set();
  web.alterScript = (text) => (scripts.add(text), text);
  const other = await openVisitor(browser);
  const pages = [page, await other.openPage()];
  for (const each of pages) await openReady(each, web.shop());
  const ids = [(await web.posts.next()).i, (await web.posts.next()).i];
  await other.close();
  assert.equal(scripts.size, 1);
  assert.equal(new Set(ids).size, 2);
  for (const id of ids) assert.match(id, /^ck_z\d{32}$/);
  assert.equal(web.tagRequests.find(({ method }) => method === "GET").url, "/t/main.static.js");
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
  // Their bodies name what the browsers made; by now the pages may carry the signed IDs that stand for it.
  for (const _ of ids) assert.match((await web.posts.next()).i, /^ck_z[a-z0-9]{32}$/);
});

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

for (const [what, host, attributes] of [
  ["an address", "127.0.0.1", "127.0.0.1"],
  ["localhost", "localhost", "localhost"],
  ["a host under a public suffix", "x.github.io", "x.github.io"],
])
  scene(`C28 on ${what} the cookies are for that host alone`, async ({ web, page, visitor }) => {
    const url = web.foreignUrl(host);
    // Served by the same host, as a reverse proxy would.
    web.tagHosts.add(host);
    web.page("/", `<script async src="/t/main.js"></script><a href="${web.pay()}">Buy</a>`);
    const id = await openReady(page, url);
    await assertStamped(page, "a", "href", web.pay(), id);
    assert.equal((await web.posts.next()).i, id);
    const jar = await visitor.context.cookies();
    assert.deepEqual(jar.map(({ name, domain }) => [name, domain]).sort(), [["_ck", attributes], ["_ck_s", attributes]]);
    assert.equal(await openReady(page, url), id);
  }, { needsServer: true });

scene("C29 another subdomain has the same ID", async ({ web, page }) => {
  web.page("/", web.tag);
  const id = await openReady(page, web.shop());
  assert.equal(await openReady(page, web.url("app.shop")), id);
});

scene("C30 the post's answer sets the cookie again; for a click ID made in the browser, the signed one", async ({ web, page, visitor }) => {
  let answer;
  web.holdPosts = new Promise((resolve) => (answer = resolve));
  web.alterScript = (text) => text.replace(/"t":(\d+)/, (_, t) => `"t":${t - 600}`);
  web.page("/", web.tag);
  const made = await openReady(page, web.shop());
  assert.match(made, /^ck_z/);
  answer();
  const holds = async (id) => (await visitor.context.cookies()).find(({ name }) => name === "_ck").value === id;
  await page.waitForFunction((made) => !document.cookie.includes(made), {}, made);
  const signed = await cookie(page, "_ck");
  assert.match(signed, CLICK_ID);
  assert.doesNotMatch(signed, /^ck_z/);
  assert.ok(await holds(signed));
  // The next page goes on with it, and an answer to it changes nothing more.
  web.alterScript = (text) => text;
  await age(page, 31);
  assert.equal(await openReady(page, web.shop()), signed);
  const [first, second] = await postsSoFar({ web, page });
  assert.deepEqual([first.i, second.i, second.p], [made, signed, signed]);
}, { needsServer: true });

scene("C31 cookies deleted, localStorage left: the same ID again", async ({ web, page, visitor }) => {
  web.page("/", web.tag);
  const id = await openReady(page, web.shop());
  await visitor.context.deleteCookie(...(await visitor.context.cookies()));
  assert.equal(await openReady(page, web.shop()), id);
  assert.equal(await cookie(page, "_ck"), id);
});

scene("C32 a tag host on another site gets no cookie and sets none; the page's own is used", async ({ web, page, visitor }) => {
  web.page("/", `${web.tag}<a href="${web.pay()}">Buy</a>`);
  const id = await openReady(page, web.url("other"));
  await web.posts.next();
  await assertStamped(page, "a", "href", web.pay(), id);
  await age(page, 31);
  assert.equal(await openReady(page, web.url("other")), id);
  assert.deepEqual((await postsSoFar({ web, page })).map(({ i, p }) => [i, p]), [[id, undefined], [id, id]]);
  assert.equal(await cookie(page, "_ck"), id);
  assert.deepEqual(web.tagRequests.map(({ headers }) => headers.cookie), Array(4).fill(undefined));
  assert.deepEqual([...new Set((await visitor.context.cookies()).map(({ domain }) => domain.replace(/^\./, "")))], ["other.localhost"]);
});

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
    const referrer = await arriveFrom({ web, page }, "https://www.google.com/", web.shop("/?page=2"));
    const second = await ready(page);
    assert.equal(second !== first, isNew);
    const posts = await postsSoFar({ web, page });
    assert.equal(posts.length, isNew ? 2 : 1);
    if (isNew) assert.equal(posts[1].r, referrer);
  });

for (const [row, before] of [
  ["D39", "https://checkout.stripe.com/c/pay/x"],
  ["D39", "https://buy.stripe.com/x"],
  ["D40", "http://blog.shop.localhost/"],
])
  scene(`${row} back from ${before} after 31 minutes: the same ID`, async ({ web, page }) => {
    web.page("/", web.tag);
    const id = await openReady(page, web.shop("/?gclid=one"));
    await age(page, 31);
    const referrer = await arriveFrom({ web, page }, before, web.shop("/?thanks"));
    assert.equal(await ready(page), id);
    assert.deepEqual((await postsSoFar({ web, page })).map(({ p, r }) => [p, r]), [[undefined, undefined], [id, referrer]]);
  });

scene("D42 a router strips the query before a late tag: the gclid is still recorded", async ({ web, page }) => {
  let release;
  web.holdScript = new Promise((resolve) => (release = resolve));
  web.page("/", `${web.lateTag}<script>history.replaceState(null, "", "/offer")</script>`);
  await goto(page, web.shop("/?gclid=one#top"));
  assert.equal(await page.evaluate(() => location.href), web.shop("/offer"));
  release();
  await ready(page);
  assert.equal((await web.posts.next()).u, web.shop("/?gclid=one#top"));
});

scene("D43 a gclid of 2,000 characters in a URL of 8 kB: recorded with the whole gclid, the rest cut", async ({ web, page }) => {
  const gclid = "Aa-_09%2B".repeat(223).slice(0, 2000);
  const long = web.shop(`/?gclid=${gclid}&x=${"y%zz&%F0%9F".repeat(550)}#${"z".repeat(100)}`);
  assert.ok(long.length > 8000);
  web.page("/", `${web.tag}<a href="${web.pay()}">Buy</a>`);
  const id = await openReady(page, long);
  await assertStamped(page, "a", "href", web.pay(), id);
  const { i, u, bytes } = await web.posts.next();
  assert.equal(i, id);
  assert.equal(u, long.slice(0, 4096));
  assert.ok(bytes < 8192);
  await page.reload({ waitUntil: "domcontentloaded" });
  assert.equal(await ready(page), id, "the same click");
  assert.notEqual(await openReady(page, long.replace("gclid=A", "gclid=B")), id, "another click");
});

scene("E44 E48 E50 one simple request of type fetch, small, text/plain, valid JSON", async ({ web, page }) => {
  const types = [];
  page.on("request", (request) => !isFirefox && request.method() !== "GET" && types.push([request.method(), request.resourceType()]));
  web.page("/", web.tag);
  const id = await openReady(page, web.shop("/?gclid=one&utm_source=x&utm_campaign=spring"));
  const post = await web.posts.next();
  assert.equal(post.i, id);
  assert.equal(post.s, "main");
  assert.ok(Math.abs(post.t - Date.now()) < 60_000);
  assert.ok(post.bytes < 1536);
  assert.match(post.headers["content-type"], /^text\/plain/);
  assert.deepEqual((await postsSoFar({ web, page })).length, 1);
  // BiDi does not tell a request's type; what Firefox would send with a ping it says itself.
  if (isFirefox || isWebKit) assert.equal(post.headers["ping-to"], undefined);
  else assert.deepEqual(new Set(types.map(String)), new Set(["POST,fetch"]));
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

for (const status of [502, 503, 429])
  scene(`E46 a proxy answers ${status} to the post: kept, and sent once on the next page`, async ({ web, page }) => {
    web.page("/", web.tag);
    web.refusePosts = status;
    const id = await openReady(page, web.shop());
    while (!web.tagRequests.some(({ method }) => method === "POST")) await new Promise(setImmediate);
    web.refusePosts = 0;
    await openReady(page, web.shop("/?second"));
    const posts = await postsSoFar({ web, page });
    assert.deepEqual(posts.map(({ i, u }) => [i, u]), [[id, web.shop("/")]]);
    await page.waitForFunction(() => !localStorage._ck_q);
    await openReady(page, web.shop("/?third"));
    assert.equal(web.tagRequests.filter(({ method }) => method === "POST").length, 2);
  }, { console: [/status of (502|503|429)|blocked by CORS policy|ERR_FAILED|Cross-Origin/] });

scene("E46 three campaigns while the server is away: all three arrive", async ({ web, page }) => {
  web.page("/", web.tag);
  web.refusePosts = 503;
  const ids = [];
  for (const name of ["one", "two", "three"]) ids.push(await openReady(page, web.shop(`/?gclid=${name}`)));
  assert.equal(new Set(ids).size, 3);
  await page.waitForFunction(() => localStorage._ck_q.split("\n").length === 3);
  web.refusePosts = 0;
  await openReady(page, web.shop());
  assert.deepEqual((await postsSoFar({ web, page })).map(({ i }) => i).sort(), ids.sort());
}, { console: [/status of 503|blocked by CORS policy|ERR_FAILED|Cross-Origin/] });

scene("D38 back and reload between two ad clicks: two click IDs, two visits", async ({ web, page }) => {
  web.page("/", web.tag);
  const first = await openReady(page, web.shop("/?gclid=A"));
  const second = await openReady(page, web.shop("/?gclid=B"));
  await goBack(page, web.shop("/?gclid=A"));
  await page.waitForFunction((id) => window.clickstamp?.id === id, {}, second);
  // Firefox's driver does not notice the load of a page that came from the cache.
  await page.evaluate(() => ((window.isOld = true), setTimeout(() => location.reload())));
  await page.waitForFunction((id) => !window.isOld && window.clickstamp?.id === id, {}, second);
  assert.deepEqual((await postsSoFar({ web, page })).map(({ i }) => i), [first, second]);
});

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
  const referrer = await arriveFrom({ web, page }, "https://m.facebook.com/", web.shop("/?fbclid=abc"));
  const { u, r, p, k } = await web.posts.next();
  assert.deepEqual([u, r, p], [web.shop("/?fbclid=abc"), referrer, first]);
  assert.deepEqual(k.split(",").sort(), ["_fbc=fb.1.2.abc", "_fbp=fb.1.2.3", "_gcl_aw=GCL.1.x"]);
});

scene("E51 the bits for automation and Global Privacy Control are set", async ({ web, page }) => {
  await page.evaluateOnNewDocument(() => Object.defineProperty(navigator, "globalPrivacyControl", { value: true }));
  web.page("/", web.tag);
  await openReady(page, web.shop());
  assert.equal((await web.posts.next()).f, 3);
}, { isAutomated: true, webKitCannot: "the tests hide its driver" });

scene("a snapshot by a program carries no click ID, and its visitors get their own; what the program uses is stamped", async ({ web, page }) => {
  const html = `<a id="pay" href="${web.pay()}">Buy</a><form action="${web.url("buy.stripe", "/abc")}"><input type="hidden" name="client_reference_id" value="${TOKEN}"></form>
    <stripe-buy-button client-reference-id="${TOKEN}"></stripe-buy-button><b onclick="window.went = '${TOKEN}'">Buy</b><main></main>`;
  web.page("/", web.tag + html);
  const id = await openReady(page, web.shop("/?gclid=one"));
  assert.equal((await web.posts.next()).f, 1);
  await page.$eval("main", (main, href) => (main.innerHTML = `<a id="late" href="${href}">Buy</a>`), web.pay());
  await page.evaluate(() => history.pushState(null, "", "/?gclid=two"));
  await page.waitForFunction((id) => clickstamp.id !== id, {}, id);
  const copy = await page.evaluate(() => document.documentElement.outerHTML);
  assert.ok(!/ck_[a-z\d]{29}/.test(copy), copy);
  assert.equal(copy.split(TOKEN).length, 6);
  web.page("/copy", copy);
  const person = await openVisitor(browser, web);
  const visit = await person.openPage();
  const own = await openReady(visit, web.shop("/copy"));
  assert.equal(await attribute(visit, "#pay", "href"), web.pay(own));
  await person.close();
  const last = await ready(page);
  await page.click("#pay");
  assert.equal(referenceOf(await web.payments.next()), last);
}, { isAutomated: true, webKitCannot: "the tests hide its driver" });

scene("E52 a page from the back-forward cache is no second visit, and takes the newer ID", async ({ web, page }) => {
  web.page("/", `${web.tag}<a href="${web.pay()}">Buy</a>`);
  web.page("/next", web.tag);
  await openReady(page, web.shop());
  await page.evaluate(() => (window.isTheSame = true));
  const id = await openReady(page, web.shop("/next?gclid=two"));
  await goBack(page, web.shop());
  assert.ok(await page.evaluate(() => window.isTheSame), "it came from the cache");
  await page.waitForFunction((id) => clickstamp.id === id && document.querySelector("a").href.endsWith(id), {}, id);
  assert.equal((await postsSoFar({ web, page })).length, 2);
});
