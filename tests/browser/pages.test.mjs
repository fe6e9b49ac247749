// The tag on pages that forbid, break or lack something, or are very large. In: pages with policies, frames, shadow
// roots, overridden functions, 40,000 elements. Out: stamped links, what the browser keeps, how long it took. Promise:
// the page keeps its policy, its functions and its speed, and the console stays empty. Each test names its row of the
// acceptance list.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { isWebKit, nextTab } from "./lib/browser.mjs";
import { CLICK_ID, TOKEN, assertStamped, attribute, cookie, goBack, goto, openReady, postsSoFar, ready, referenceOf, scene } from "./lib/scene.mjs";

const read = (name) => readFileSync(new URL(`../../static/${name}.min.js`, import.meta.url), "utf8");
/** Puts an add-on around the tag, as the server does. */
const wrapped = (name, keys) => (text) => {
  const at = text.lastIndexOf("({");
  return `${read(`tag-${name}`)}(${text.slice(0, at)})({${JSON.stringify(keys).slice(1, -1)},${text.slice(at + 2)}`;
};
const auto = wrapped("auto", { h: "^https?://buy\\.stripe\\." });
const linked = wrapped("linked", { d: "^https?://([^/]+\\.)?shop\\.fr[:/]" });
/** The tag alone, and with the add-ons that look at every link; and how long a task may be on a busy machine, in ms. */
const WITH_ADD_ONS = [
  ["alone", (text) => text, 50],
  ["with auto", auto, 200],
  ["with linked domains", linked, 200],
  ["with both", (text) => linked(auto(text)), 200],
];

scene("A5 tags of two sites: the first wins, the second does nothing", async ({ web, page }) => {
  let served = 0;
  // The URLs differ, because browsers request both at once and either may arrive first.
  web.alterScript = (text, url) => (served++, url.endsWith("?second") ? text.replace('"s":"main"', '"s":"second"') : text);
  const inOrder = (tail) => web.tag.replace("async ", "").replace("main.js", `main.js${tail}`);
  web.page("/", `${inOrder("")}<script>window.first = clickstamp</script>${inOrder("?second")}<a href="${web.pay()}">Buy</a>`);
  const id = await openReady(page, web.shop());
  // WebKit asks twice for a script that holds up the page and that nobody may keep.
  assert.ok(isWebKit ? served >= 2 : served === 2, String(served));
  assert.ok(await page.evaluate(() => window.first === clickstamp));
  assert.equal(await cookie(page, "_ck"), id);
  await assertStamped(page, "a", "href", web.pay(), id);
  assert.deepEqual((await postsSoFar({ web, page })).map(({ s, i }) => [s, i]), [["main", id]]);
});

scene("A8 a page that uses everything: nothing is thrown, and no browser warns of the cookies", async ({ web, page, visitor }) => {
  web.page("/", `<script>window.clickstamp = function () { (clickstamp.q = clickstamp.q || []).push(arguments) }
      clickstamp("ready", () => { throw new Error("the page's own mistake") }); clickstamp("event", "Lead", { plan: "pro" })</script>
    ${web.tag}<a href="${web.pay()}">Buy</a><form action="${web.pay()}"><input type="hidden" value="${TOKEN}"></form>
    <stripe-buy-button client-reference-id="${TOKEN}"></stripe-buy-button><iframe src="/inner"></iframe>
    <div id="host"></div><script>host.attachShadow({ mode: "open" }).innerHTML = '<a href="${web.pay()}">Buy</a>'</script>`);
  web.page("/inner", web.tag);
  const id = await openReady(page, web.shop("/?gclid=one&bad=%zz#%"));
  await page.evaluate(() => {
    for (const call of [[], ["no such command"], ["url"], ["url", null], ["scan", null], ["scan", "text"], ["ready"], ["event"]]) clickstamp(...call);
    document.dispatchEvent(new Event("click"));
    window.dispatchEvent(new Event("pageshow"));
    history.pushState(null, "", "/?gclid=two");
  });
  // Without a Navigation API nothing tells of the new address.
  if (!isWebKit) await page.waitForFunction((id) => clickstamp.id && clickstamp.id !== id, {}, id);
  await assertStamped(page, "a", "href", web.pay(), await ready(page));
  await postsSoFar({ web, page });
  // Browsers warn of a cookie that names no SameSite, that they refuse, or that says Secure where nothing is.
  const jar = await visitor.context.cookies();
  assert.deepEqual(jar.map(({ name, sameSite, secure }) => [name, sameSite, secure]).sort(), [["_ck", "Lax", false], ["_ck_s", "Lax", false]]);
});

scene("A10 a policy with a nonce and strict-dynamic", async ({ web, page }) => {
  const policy = { "content-security-policy": `script-src 'nonce-n1' 'strict-dynamic'; connect-src ${web.url("go.shop", "")}; base-uri 'none'` };
  web.page("/", `${web.tag.replace("async", 'async nonce="n1"')}<a href="${web.pay()}">Buy</a>`, policy);
  const id = await openReady(page, web.shop());
  await assertStamped(page, "a", "href", web.pay(), id);
  assert.equal((await web.posts.next()).i, id);
});

scene("A11 a policy that requires trusted types", async ({ web, page }) => {
  web.page("/", `${web.tag}<a href="${web.pay()}">Buy</a><form action="${web.pay()}"><input type="hidden" value="${TOKEN}"></form><iframe src="${web.pay()}"></iframe>
    <stripe-buy-button client-reference-id="${TOKEN}"></stripe-buy-button>`, {
    "content-security-policy": "require-trusted-types-for 'script'; trusted-types 'none'",
  });
  const id = await openReady(page, web.shop());
  for (const [selector, name] of [["a", "href"], ["form", "action"], ["iframe", "src"]]) await assertStamped(page, selector, name, web.pay(), id);
  await assertStamped(page, "input", "value", TOKEN, id);
  await assertStamped(page, "stripe-buy-button", "client-reference-id", TOKEN, id);
});

scene("A12 an isolated page (COEP require-corp) loads the tag, and its visit arrives", async ({ web, page }) => {
  const isolated = { "cross-origin-embedder-policy": "require-corp", "cross-origin-opener-policy": "same-origin" };
  web.page("/", `${web.tag}<a href="${web.pay()}">Buy</a>`, isolated);
  const id = await openReady(page, web.shop());
  assert.ok(await page.evaluate(() => crossOriginIsolated));
  await assertStamped(page, "a", "href", web.pay(), id);
  assert.equal((await web.posts.next()).i, id);
});

scene("A13 the crossorigin attribute on the tag", async ({ web, page }) => {
  web.page("/", `${web.tag.replace("async", "async crossorigin")}<a href="${web.pay()}">Buy</a>`);
  const id = await openReady(page, web.shop());
  assert.equal(web.tagRequests[0].headers["sec-fetch-mode"], "cors");
  await assertStamped(page, "a", "href", web.pay(), id);
});

for (const [name, load] of [
  ["a module", (src) => `<script type="module" src="${src}"></script>`],
  ["an import", (src) => `<script>import("${src}")</script>`],
  ["evaluated text", (src) => `<script>fetch("${src}").then((response) => response.text()).then((text) => (0, eval)(text))</script>`],
])
  scene(`A14 without document.currentScript: ${name}`, async ({ web, page }) => {
    web.page("/", `${load(web.url("go.shop", "/t/main.js"))}<a href="${web.pay()}">Buy</a>`);
    const id = await openReady(page, web.shop());
    await assertStamped(page, "a", "href", web.pay(), id);
    assert.equal((await web.posts.next()).i, id);
  });

scene("A15 the page overrides window.open and history later: no recursion, everything still stamped", async ({ web, page, visitor }) => {
  web.page("/", `<script>window.native = window.open</script>${web.tag}<button>Buy</button><a href="${web.pay()}">Buy</a>`);
  const first = await openReady(page, web.shop());
  await page.evaluate((url) => {
    window.calls = 0;
    const [{ open }, { pushState }] = [window, history];
    window.open = function (...rest) {
      window.calls++;
      return open.apply(this, rest);
    };
    history.pushState = function (...rest) {
      window.calls++;
      return pushState.apply(this, rest);
    };
    history.pushState(null, "", "/?gclid=two");
    document.querySelector("button").onclick = () => void window.open(url);
  }, web.pay());
  const second = await ready(page);
  // Without a Navigation API nothing tells of the new address.
  assert.equal(second !== first, !isWebKit);
  await assertStamped(page, "a", "href", web.pay(), second);
  await nextTab(visitor, () => page.click("button"));
  assert.equal(referenceOf(await web.payments.next()), second);
  assert.equal(await page.evaluate(() => window.calls), 2);
  // A page that puts the browser's own back gets it, whole.
  assert.match(await page.evaluate(() => String((window.open = window.native))), /native code/);
});

/** Runs it up to five times until it holds: another process may take the processor away, but not five times in a row. */
const bestOfFive = async (measure, isGood) => {
  const results = [];
  while (results.length < 5) {
    results.push(await measure());
    if (isGood(results.at(-1))) return;
  }
  assert.fail(`measured ${JSON.stringify(results)}`);
};

for (const [what, wrap, most] of WITH_ADD_ONS) scene(`A16 a page with 40,000 elements: the tag ${what} makes no task longer than ${most} ms`, async ({ web, page }) => {
  const row = `<li class="item"><a href="/product?sku=1" class="link"><b>Black jacket</b></a></li>`;
  const rows = `${row.repeat(100)}<li><a class="pay" href="${web.pay()}">Buy</a></li>`;
  web.page("/", `<ul>${rows.repeat(133)}</ul>`);
  web.alterScript = wrap;
  const src = web.url("go.shop", "/t/main.js");
  const measure = async () => {
    await goto(page, web.shop(), { waitUntil: "load" });
    assert.ok((await page.evaluate(() => document.querySelectorAll("*").length)) > 40_000);
    return page.evaluate(async (src) => {
      // The page's own parsing and layout are over before the tag comes.
      const settled = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
      await settled();
      await settled();
      const from = performance.now();
      const tasks = [];
      const knowsTasks = PerformanceObserver.supportedEntryTypes.includes("longtask");
      const observer = new PerformanceObserver((list) => tasks.push(...list.getEntries()));
      if (knowsTasks) observer.observe({ type: "longtask" });
      const isReady = new Promise((resolve) => document.addEventListener("clickstamp:ready", resolve, { once: true }));
      document.head.append(Object.assign(document.createElement("script"), { src }));
      await isReady;
      const before = performance.now();
      clickstamp("scan", document);
      const scan = performance.now() - before;
      await settled();
      await settled();
      tasks.push(...observer.takeRecords());
      const long = tasks.filter(({ startTime }) => startTime >= from).map(({ duration }) => duration);
      return { long, scan, stamped: [...document.querySelectorAll(".pay")].every((link) => link.href.endsWith(clickstamp.id)) };
    }, src);
  };
  await bestOfFive(measure, ({ long, scan, stamped }) => stamped && long.every((took) => took < most) && scan < most);
});

scene("A18 no unload or beforeunload listener; the page stays eligible for the back-forward cache", async ({ web, page }) => {
  await page.evaluateOnNewDocument(() => {
    window.listened = [];
    const { addEventListener } = EventTarget.prototype;
    EventTarget.prototype.addEventListener = function (type, ...rest) {
      window.listened.push(type);
      return addEventListener.call(this, type, ...rest);
    };
  });
  web.page("/", web.tag);
  web.page("/next", "");
  await openReady(page, web.shop());
  await web.posts.next();
  const listened = await page.evaluate(() => window.listened);
  assert.ok(listened.includes("pageshow"), "it is the tag's listeners that are seen");
  assert.deepEqual(listened.filter((type) => type.includes("unload")), []);
  assert.deepEqual(await page.evaluate(() => [window.onunload, window.onbeforeunload]), [null, null]);
  await page.evaluate(() => (window.isTheSame = true));
  await goto(page, web.shop("/next"));
  await goBack(page, web.shop());
  assert.ok(await page.evaluate(() => window.isTheSame), "it came from the cache");
});

scene("E53 a tab opened in the background is recorded", async ({ web, page, visitor }) => {
  web.page("/", `<a href="/landing?gclid=one" target="_blank">Go</a>`);
  web.page("/landing", web.tag);
  await goto(page, web.shop());
  await page.keyboard.down("Control");
  const tab = await nextTab(visitor, () => page.click("a"));
  await page.keyboard.up("Control");
  const post = await web.posts.next();
  assert.equal(post.u, web.shop("/landing?gclid=one"));
  assert.equal(await ready(tab), post.i);
  // WebKit's driver always shows the newest tab.
  if (!isWebKit) assert.equal(await tab.evaluate(() => document.visibilityState), "hidden");
});

scene("a prerendered page lands when it is shown, and not before", async ({ web, page }) => {
  const rules = { prerender: [{ source: "list", urls: ["/landing?gclid=one"], eagerness: "immediate" }] };
  web.page("/", `<script type="speculationrules">${JSON.stringify(rules)}</script>`);
  // The driver loses sight of a page that was prerendered; so the page itself follows its link when it is shown and
  // ready.
  web.page("/landing", `${web.tag.replace("async", `async onload="fetch('${web.url("go.shop", web.markPath)}', { method: 'POST', mode: 'no-cors' })"`)}
    <a href="${web.pay()}">Buy</a><script>const wasPrerendered = document.prerendering;
    document.addEventListener("clickstamp:ready", () => wasPrerendered && !document.prerendering && document.links[0].click())</script>`);
  await goto(page, web.shop());
  assert.ok((await web.posts.next()).isMark, "the tag has run in the prerendered page, and posted nothing");
  assert.match(web.tagRequests[0].headers["sec-purpose"], /prerender/);
  assert.equal(web.tagRequests.length, 1);
  await page.evaluate(() => void (location.href = "/landing?gclid=one"));
  const post = await web.posts.next();
  assert.equal(post.u, web.shop("/landing?gclid=one"));
  assert.equal(referenceOf(await web.payments.next()), post.i);
  assert.equal(web.tagRequests.filter(({ method }) => method === "GET").length, 1);
}, { firefoxLacks: "prerendering", webKitCannot: "the engine has no prerendering" });

scene("F63 a link in a closed shadow root", async ({ web, page }) => {
  web.page("/", `${web.tag}<div id="host"></div><script>
    host.attachShadow({ mode: "closed" }).innerHTML = '<a style="display:block" href="${web.pay()}">Buy</a>'</script>`);
  const id = await openReady(page, web.shop());
  await page.click("#host");
  assert.equal(referenceOf(await web.payments.next()), id);
  assert.equal(web.payments.all.length, 1);
}, { webKitCannot: "the engine has no Navigation API; a redirect link serves there" });

scene("F65 a page whose own address has the placeholder can be reloaded, and left and come back to", async ({ web, page }) => {
  web.page("/", `${web.tag}<a href="${web.pay()}">Buy</a>`);
  web.page("/other", web.tag);
  const address = web.shop(`/?sub=${TOKEN}`);
  const id = await openReady(page, address);
  await page.evaluate(() => ((window.isOld = true), location.reload()));
  await page.waitForFunction(() => !window.isOld);
  assert.equal(await ready(page), id);
  assert.equal(page.url(), address);
  await openReady(page, web.shop("/other"));
  await goBack(page, address);
  await page.click("a");
  assert.equal(referenceOf(await web.payments.next()), id);
});

scene("F64 a frame of the same origin with its own tag shares the ID", async ({ web, page }) => {
  const html = `${web.tag}<a href="${web.pay()}">Buy</a>`;
  web.page("/", `${html}<iframe src="/inner"></iframe>`);
  web.page("/inner", html);
  const id = await openReady(page, web.shop());
  const frame = page.frames().find((frame) => frame.url() === web.shop("/inner")) ?? (await page.waitForFrame(web.shop("/inner")));
  assert.equal(await ready(frame), id);
  await assertStamped(page, "a", "href", web.pay(), id);
  await assertStamped(frame, "a", "href", web.pay(), id);
  assert.deepEqual((await postsSoFar({ web, page })).map(({ i }) => i), [id]);
});

scene("F69 the placeholder in a javascript: link is stamped where it stands, and never run by us", async ({ web, page }) => {
  const code = `javascript:void (window.went = '${TOKEN}', window.times = (window.times ?? 0) + 1)`;
  web.page("/", `${web.tag}<a id="run" href="${code}">Buy</a><a id="broken" href="javascript:${TOKEN}(">Broken</a>`);
  const id = await openReady(page, web.shop());
  await assertStamped(page, "#run", "href", code, id);
  await assertStamped(page, "#broken", "href", `javascript:${TOKEN}(`, id);
  assert.equal(await page.evaluate(() => window.went), undefined);
  await page.click("#run");
  await page.waitForFunction(() => window.went);
  assert.deepEqual(await page.evaluate(() => [window.went, window.times]), [id, 1]);
});

scene("F70 a single-page app goes to an address with a new gclid: stamped links carry the new ID", async ({ web, page }) => {
  web.page("/", `${web.tag}<a id="route" href="/offer?gclid=two">Offer</a><a id="pay" href="${web.pay()}">Buy</a><script>
    navigation.addEventListener("navigate", (event) => event.canIntercept && event.destination.url.includes("/offer") && event.intercept())</script>`);
  const first = await openReady(page, web.shop("/?gclid=one"));
  await assertStamped(page, "#pay", "href", web.pay(), first);
  await page.click("#route");
  await page.waitForFunction((first) => clickstamp.id !== first, {}, first);
  const second = await ready(page);
  assert.match(second, CLICK_ID);
  assert.equal(page.url(), web.shop("/offer?gclid=two"));
  await assertStamped(page, "#pay", "href", web.pay(), second);
  assert.deepEqual((await postsSoFar({ web, page })).map(({ i, p }) => [i, p]), [[first, undefined], [second, first]]);
}, { webKitCannot: "the engine has no Navigation API; a redirect link serves there" });

for (const [what, wrap, most] of WITH_ADD_ONS) scene(`F71 10,000 mutations a second cost the tag ${what} less than ${most} ms of it`, async ({ web, page }) => {
  await page.evaluateOnNewDocument(() => {
    window.spent = window.seen = 0;
    const Native = MutationObserver;
    window.MutationObserver = class extends Native {
      constructor(work) {
        super((records, observer) => {
          const before = performance.now();
          work(records, observer);
          window.spent += performance.now() - before;
          window.seen += records.length;
        });
      }
    };
  });
  web.alterScript = wrap;
  web.page("/", `${web.tag}<ul></ul>`);
  await openReady(page, web.shop());
  const measure = () =>
    page.evaluate(async () => {
      window.spent = window.seen = 0;
      const list = document.querySelector("ul");
      // A second's worth in a hundred batches, as a busy page makes them: half are new elements, half changed
      // addresses.
      for (let batch = 0; batch < 100; batch++) {
        for (let change = 0; change < 50; change++) {
          const item = document.createElement("li");
          item.innerHTML = '<a href="/product">Product</a>';
          list.append(item);
          item.firstChild.href = `/product?sku=${change}`;
        }
        await new Promise((resolve) => setTimeout(resolve));
        list.textContent = "";
        await new Promise((resolve) => setTimeout(resolve));
      }
      return { spent: window.spent, seen: window.seen };
    });
  await bestOfFive(measure, ({ spent, seen }) => seen >= 10_000 && spent < most);
});

scene("a storage that is full: stamped, posted, and nothing is thrown, even when the post fails", async ({ web, page }) => {
  const fill = `<script>const fill = (size) => { try { for (;;) localStorage["x" + localStorage.length] = "y".repeat(size) } catch {} }
    for (const size of [1e6, 1e5, 1e4, 1e3, 100, 1]) fill(size)</script>`;
  web.page("/", `${fill}${web.tag}<a href="${web.pay()}">Buy</a>`);
  const id = await openReady(page, web.shop("/?gclid=one"));
  await assertStamped(page, "a", "href", web.pay(), id);
  assert.equal(await page.evaluate(() => localStorage._ck), undefined, "it was full");
  assert.equal((await web.posts.next()).i, id);
  assert.equal(await openReady(page, web.shop()), id);
  web.dropPosts = true;
  assert.notEqual(await openReady(page, web.shop("/?gclid=two")), id);
  await postsSoFar({ web, page });
}, { console: [/ERR_(EMPTY_RESPONSE|CONNECTION_RESET)/] });

scene("H76 consent refused: silent across pages, and the link is left as it is", async ({ web, page }) => {
  const asks = web.tag.replace("main.js", "main.js?nc=1");
  const html = `<script>window.clickstamp = function () { (clickstamp.q = clickstamp.q || []).push(arguments) }; clickstamp("consent", false)</script>
    ${asks}<a href="${web.pay()}">Buy</a>`;
  web.page("/", html);
  web.page("/offer", html);
  for (const path of ["/?gclid=one", "/offer?gclid=two", "/"]) {
    await goto(page, web.shop(path), { waitUntil: "load" });
    assert.deepEqual(await page.evaluate(() => [clickstamp.id, document.cookie, Object.keys(localStorage)]), ["", "", []]);
    assert.equal(await attribute(page, "a", "href"), web.pay());
  }
  assert.deepEqual(await postsSoFar({ web, page }), []);
  await page.click("a");
  assert.equal(referenceOf(await web.payments.next()), TOKEN);
});

scene("J87 a page on http: cookies without Secure, and the whole journey", async ({ web, page, visitor }) => {
  web.page("/", `${web.tag}<a href="${web.pay()}">Buy</a>`);
  const id = await openReady(page, web.shop());
  assert.equal((await web.posts.next()).i, id);
  assert.deepEqual((await visitor.context.cookies()).filter(({ secure }) => secure), []);
  await page.click("a");
  assert.equal(referenceOf(await web.payments.next()), id);
});

scene("J87 a page from a file: the link is stamped, nothing is thrown", async ({ web, page }) => {
  const directory = await mkdtemp(join(tmpdir(), "clickstamp-page-"));
  try {
    await writeFile(join(directory, "page.html"), `<!doctype html><title>File</title>${web.tag}<a href="${web.pay()}">Buy</a>`);
    const id = await openReady(page, pathToFileURL(join(directory, "page.html")).href);
    assert.match(id, CLICK_ID);
    await page.click("a");
    assert.equal(referenceOf(await web.payments.next()), id);
  } finally {
    await rm(directory, { recursive: true });
  }
});

scene("J88 an engine without Navigation API and composedPath: links are stamped, the rest is quiet", async ({ web, page }) => {
  await page.evaluateOnNewDocument(() => {
    Object.defineProperty(window, "navigation", { value: undefined });
    delete Event.prototype.composedPath;
  });
  web.page("/", `${web.tag}<a href="${web.pay()}">Buy</a><div id="later"></div>`);
  const first = await openReady(page, web.shop());
  assert.ok(await page.evaluate(() => !window.navigation && !Event.prototype.composedPath));
  await page.$eval("#later", (element, href) => (element.innerHTML = `<a href="${href}">Buy</a>`), web.pay());
  await page.waitForFunction((id) => document.querySelector("#later a").href.endsWith(id), {}, first);
  await page.click("a");
  assert.equal(referenceOf(await web.payments.next()), first);
});

scene("the debug add-on shows which links were stamped and why others were not, and changes nothing else", async ({ web, page }) => {
  web.page("/", `${web.tag.replace("main.js", "main.js?debug=1")}<a id="good" href="${web.pay()}">Buy</a><a id="own" href="https://buy.stripe.com/a?client_reference_id=mine">Own</a>
    <a id="bare" href="https://buy.stripe.com/b">Bare</a><p title="${TOKEN}">Text</p>`);
  const id = await openReady(page, web.shop());
  const shows = (selector) => page.$eval("#clickstamp-debug", (overlay, selector) => [...overlay.shadowRoot.querySelectorAll(selector)].map((part) => part.textContent), selector);
  await page.waitForFunction((id) => document.querySelector("#clickstamp-debug")?.shadowRoot.textContent.includes(id), {}, id);
  assert.deepEqual(await shows("ul li"), ["1 stamped", "1 with the placeholder", "1 with another reference", "1 without"]);
  assert.deepEqual(await shows("ol button"), ["Own", "Bare", "Text"]);
  const [own, bare, text] = await shows("ol li");
  assert.match(own, /<a href> https:\/\/buy\.stripe\.com\/a\S+?Has a reference of its own/);
  assert.match(bare, /<a href> https:\/\/buy\.stripe\.com\/bHas no placeholder: add /);
  assert.match(text, /<p title> --CLICK-ID--The tag does not touch this place/);
  const box = await page.$eval("#clickstamp-debug", (overlay) => overlay.shadowRoot.querySelector("section").getBoundingClientRect().toJSON());
  assert.ok(box.width > 200 && box.height > 100 && box.bottom <= (await page.evaluate(() => innerHeight)), JSON.stringify(box));
  await assertStamped(page, "#good", "href", web.pay(), id);
  assert.equal(await attribute(page, "#bare", "href"), "https://buy.stripe.com/b");
  // It follows the page.
  await page.$eval("#bare", (link) => link.remove());
  await page.waitForFunction(() => document.querySelector("#clickstamp-debug").shadowRoot.textContent.includes("0 without"));
  // It shows where a link is, and disappears when closed.
  await page.$eval("#clickstamp-debug", (overlay) => overlay.shadowRoot.querySelector("ol button").click());
  assert.deepEqual(await shows(".mark"), [""]);
  await page.$eval("#clickstamp-debug", (overlay) => overlay.shadowRoot.querySelector("header button").click());
  assert.deepEqual(await shows("section"), []);
}, { console: [/^info: Clickstamp/, /^table: /] });

scene("the debug add-on says why nothing is stamped", async ({ web, page }) => {
  web.page("/", `${web.tag.replace("main.js", "main.js?debug=1&nc=1")}<a href="${web.pay()}">Buy</a>`);
  await goto(page, web.shop());
  await page.waitForFunction(() => document.querySelector("#clickstamp-debug")?.shadowRoot.textContent.includes("Nothing is stamped, because the visitor has not agreed yet"));
  assert.equal(await attribute(page, "a", "href"), web.pay());
}, { console: [/^info: Clickstamp/, /^table: /] });
