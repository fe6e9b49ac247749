// A tag host that fails, in every way that a server, a proxy or a network does.
// In: pages with a payment link, and faults of the script's or the post's answer. Out: where the link leads, what the
// console shows, when the page counts as loaded, and which visits the server has in the end.
// Guarantees that the page does not notice, and that a visit which the server could not take is not lost.

import assert from "node:assert/strict";
import { isFirefox, openVisitor } from "./lib/browser.mjs";
import { API_TOKEN, CLICK_ID, TOKEN, assertStamped, browser, goto, openReady, ready, referenceOf, scene, server } from "./lib/scene.mjs";

/** What a browser itself says of a request that failed. Nothing of ours is among it. */
const NETWORK = [/^error: Failed to load resource: /, /^error: Access to fetch at .* blocked by CORS policy/, /^\w+: .*Cross-Origin Request Blocked/];

const cut = (response, type) => {
  response.writeHead(200, { "content-type": type, "content-length": "4000" });
  response.write("((config) => {");
  setTimeout(() => response.destroy(), 50);
};
/** Sends the browser to the same address again. */
const loop = (path) => (response) => response.writeHead(307, { location: path, "access-control-allow-origin": "*" }).end();

/** Faults of the script: how it is answered, and what the browser says of it. */
const SCRIPTS = [
  ["hangs", () => {}, []],
  ["is 502", (response) => response.writeHead(502).end("<h1>Bad Gateway</h1>"), NETWORK],
  ["is garbage", (response) => response.writeHead(200, { "content-type": "text/javascript" }).end("%%%"), [/^uncaught: .*(SyntaxError|Script error)/]],
  ["is a redirect loop", loop("/t/main.js"), NETWORK],
  ["is cut", (response) => cut(response, "text/javascript"), [...NETWORK, /^uncaught: .*(SyntaxError|Script error)/]],
];
for (const [name, answer, console] of SCRIPTS) {
  scene(`A6 the script's answer ${name}: the page's own link works`, async ({ web, page }) => {
    web.answerScript = answer;
    const isHung = name === "hangs";
    web.page("/", `${isHung ? web.lateTag : web.tag}<a href="${web.pay()}">Buy</a>`);
    // A script that is on its way holds up the load event, and nothing before it.
    await goto(page, web.shop(), { waitUntil: isHung ? "domcontentloaded" : "load" });
    if (isHung && !process.env.WEBKIT) assert.equal(await page.evaluate(() => document.readyState), "interactive");
    await page.click("a");
    assert.equal(referenceOf(await web.payments.next()), TOKEN);
  }, { console });

  // As docs/tag.md offers it for pages whose overlay waits for the load event.
  scene(`A6 the script's answer ${name}: imported by a module, it holds up nothing`, async ({ web, page }) => {
    web.answerScript = answer;
    web.page("/", `<script type="module">import("${web.url("go.shop", "/t/main.js")}").catch(() => {})</script><a href="${web.pay()}">Buy</a>`);
    await goto(page, web.shop());
    await page.waitForFunction(() => document.readyState === "complete");
    await page.click("a");
    assert.equal(referenceOf(await web.payments.next()), TOKEN);
  }, { console: [...console, ...NETWORK, /^\w+: .*(CORS|Cross-Origin)/, /^uncaught: .*disallowed MIME type/], firefoxLacks: name === "hangs" && "load event that does not wait for imports" });
}

/** Faults of the answer to a post. */
const POSTS = [
  ["hangs", () => {}],
  ["is 500", (response) => response.writeHead(500).end("oops")],
  ["is 429", (response) => response.writeHead(429).end("slow down")],
  ["is cut", (response) => cut(response, "text/plain")],
  ["is no answer at all", (response) => response.destroy()],
  ["is a redirect loop", loop("/v")],
];
for (const [name, answer] of POSTS)
  scene(`E46 the post's answer ${name}: the link is stamped and works, the page is loaded, and the visit is kept`, async ({ web, page }) => {
    web.answerPost = answer;
    web.page("/", `${web.tag}<a href="${web.pay()}">Buy</a>`);
    await goto(page, web.shop("/?gclid=one"), { waitUntil: "load" });
    const id = await ready(page);
    await assertStamped(page, "a", "href", web.pay(), id);
    while (!web.tagRequests.some(({ method }) => method === "POST")) await page.evaluate(() => new Promise(requestAnimationFrame));
    const [kept] = web.tagRequests.filter(({ method }) => method === "POST").map(({ body }) => body);
    assert.equal(await page.evaluate(() => localStorage._ck_q), kept);
    await page.click("a");
    assert.equal(referenceOf(await web.payments.next()), id);
    web.answerPost = undefined;
    // The visitor comes back; the next page sends it.
    const [next, close] = await (async (tab) => [tab, () => tab.close()])(await page.browserContext().newPage());
    web.page("/plain", "");
    await goto(next, web.shop("/plain"));
    assert.equal(await next.evaluate(() => localStorage._ck_q), kept);
    await close();
  }, { console: NETWORK, webKitCannot: "its driver has no second tab here" });

/** Lets half a minute pass in a second. */
const hurry = () => {
  const native = window.setTimeout;
  window.setTimeout = (work, wait, ...more) => native(work, wait > 1e4 ? wait / 30 : wait, ...more);
};

scene("E46 a minute of 502 from the proxy, and no visit is lost: of visitors who stay, go on, leave and come back, click ads and pay", async ({ web }) => {
  web.page("/", `${web.tag}<a id="pay" href="${web.pay()}">Buy</a>`);
  web.page("/offer", `${web.tag}<a id="pay" href="${web.pay()}">Buy</a>`);
  const ids = [];
  const visitors = [];
  const arrive = async (path) => {
    const visitor = await openVisitor(browser, web);
    visitors.push(visitor);
    const open = async () => {
      const page = await visitor.openPage();
      await page.evaluateOnNewDocument(hurry);
      return page;
    };
    const page = await open();
    ids.push(await openReady(page, web.shop(path)));
    return { visitor, page, open };
  };
  const postsOf = (id) => web.tagRequests.filter(({ method, body }) => method === "POST" && body.includes(id)).length;
  const until = async (page, holds) => {
    while (!holds()) await page.evaluate(() => new Promise((resolve) => setTimeout(resolve, 20)));
  };
  try {
    web.refusePosts = 502;
    const going = await arrive("/?utm_source=letter");
    await openReady(going.page, web.shop("/offer"));
    const leaving = await arrive("/?ref=friend");
    await until(leaving.page, () => postsOf(ids[1]));
    await leaving.page.close();
    const clicking = await arrive("/?gclid=one");
    for (const name of ["two", "three"]) ids.push(await openReady(clicking.page, web.shop(`/?gclid=${name}`)));
    const paying = await arrive("/?fbclid=one");
    await paying.page.click("#pay");
    assert.equal(referenceOf(await web.payments.next()), ids.at(-1));
    const staying = await arrive("/");
    // The first post, one after half a minute and one a minute later.
    await until(staying.page, () => postsOf(ids.at(-1)) >= 3);

    web.refusePosts = 0;
    const back = await leaving.open();
    await openReady(back, web.shop("/"));
    await openReady(await paying.open(), web.shop("/offer?session_id=cs_test_1"));

    for (const id of ids) {
      assert.match(id, CLICK_ID);
      let visit;
      while (!visit?.is_reported) {
        const response = await fetch(`${server.url}/api/v1/visits/${id}`, { headers: { authorization: `Bearer ${API_TOKEN}` } });
        visit = response.ok && (await response.json());
        await back.evaluate(() => new Promise((resolve) => setTimeout(resolve, 20)));
      }
    }
    const unexpected = visitors.flatMap(({ said }) => said).filter((said) => !NETWORK.some((pattern) => pattern.test(said)));
    assert.deepEqual(unexpected, [], "nothing in the console but the browser's own lines");
    assert.ok(isFirefox || visitors.some(({ said }) => said.length), "and those are there");
  } finally {
    for (const visitor of visitors) await visitor.close();
  }
}, { needsServer: true, webKitCannot: "every visitor needs a browser of its own, which takes too long" });
