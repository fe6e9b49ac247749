// The server's responses to the tag, as a browser receives them. Starts the real server and pages with requests that
// such pages may send. Checks headers, bodies, click IDs, cookies and the resulting payments: the script is not cached,
// no two visitors share a click ID, and no response header contains a part of the request. Each test's name begins with
// its row of the acceptance list.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { API_TOKEN, CLICK_ID, SECRET, age, assertStamped, cookie, goto, openReady, postsSoFar, ready, referenceOf, scene, server } from "./lib/scene.mjs";
import { askApi, askUntil, paidWith, sendWebhook } from "./lib/stripe.mjs";

const answers = (name, play, options) => scene(name, play, { needsServer: true, webKitCannot: "its driver shows no answers' headers and sizes", ...options });
/** The tag directly from the server, without a proxy in between. */
const direct = () => `<script async crossorigin src="${server.url}/t/main.js"></script>`;
/** What the browser says of the script's body: bytes that came, bytes unpacked. It says so a moment after the script has run. */
const sizesOfTag = async (page) =>
  (await page.waitForFunction(() => {
    const entry = performance.getEntriesByType("resource").find(({ name }) => name.endsWith("/t/main.js"));
    return entry?.encodedBodySize && [entry.encodedBodySize, entry.decodedBodySize];
  })).jsonValue();
const bakedIn = (text) => /,"i":"([^"]*)","t":/.exec(text)[1];

answers("A17 what the browser loads is within the size gates: the tag, its config, the stub", async ({ web, page }) => {
  web.page("/", direct());
  await openReady(page, web.foreignUrl("127.0.0.1"));
  const [encoded, decoded] = await sizesOfTag(page);
  // Click ID, settings and headers included.
  assert.ok(encoded > 0 && encoded < 2450, `${encoded} bytes`);
  const text = await (await fetch(`${server.url}/t/main.js`, { headers: { referer: "https://www.shop.com/" } })).text();
  const config = text.slice(text.lastIndexOf("({"));
  assert.ok(config.length <= 400 && decoded < 5000, `${config.length} bytes of config`);
  assert.ok(readFileSync(new URL("../../static/tag-stub.min.js", import.meta.url)).length <= 550);
});

answers("B21 headers: nobody may keep the script, sniff at it or be refused it; a second page asks again", async ({ web, page }) => {
  const seen = [];
  page.on("response", (response) => response.url().endsWith("/t/main.js") && seen.push(response.headers()));
  const served = [];
  web.alterScript = (text) => (served.push(bakedIn(text)), text);
  web.page("/", web.tag);
  web.page("/next", web.tag);
  await openReady(page, web.shop());
  await openReady(page, web.shop("/next"));
  await goto(page, web.shop());
  await ready(page);
  assert.equal(new Set(served).size, 3, "each load has a fresh ID");
  assert.equal(seen.length, 3);
  for (const headers of seen) {
    assert.equal(headers["content-type"], "text/javascript; charset=utf-8");
    assert.equal(headers["x-content-type-options"], "nosniff");
    assert.match(headers["cache-control"], /\bprivate\b.*\bno-store\b.*\bno-transform\b/);
    assert.deepEqual([headers["cdn-cache-control"], headers["surrogate-control"]], ["no-store", "no-store"]);
    assert.equal(headers["cross-origin-resource-policy"], "cross-origin");
    assert.equal(headers["timing-allow-origin"], "*");
    assert.match(headers.vary, /Accept-Encoding.*Cookie.*Referer/);
    for (const name of ["etag", "last-modified", "set-cookie", "expires", "access-control-allow-origin"]) assert.equal(headers[name], undefined, name);
  }
  assert.deepEqual(web.tagRequests.filter(({ headers }) => headers["if-none-match"] || headers["if-modified-since"]), [], "and none has anything to ask with");
  const head = await fetch(`${server.url}/t/main.js`, { method: "HEAD" });
  assert.deepEqual([head.status, head.headers.get("cache-control"), await head.text()], [200, seen[0]["cache-control"], ""]);
});

answers("B23 every ID is well formed and without two dashes, whoever made it", async ({ web, page }) => {
  web.page("/", direct());
  web.page("/fixed", direct().replace("main.js", "main.static.js"));
  const [minted, made] = [await openReady(page, web.foreignUrl("127.0.0.1")), await openReady(page, web.foreignUrl("localhost", "/fixed"))];
  const more = await page.evaluate(async (url) => {
    const texts = await Promise.all(Array.from({ length: 100 }, () => fetch(url).then((answer) => answer.text())));
    return texts.map((text) => /,"i":"([^"]*)"/.exec(text)[1]);
  }, `${server.url}/t/main.js`);
  assert.match(made, /^ck_z/);
  const all = [minted, made, ...more];
  assert.equal(new Set(all).size, 102);
  for (const id of all) {
    assert.match(id, CLICK_ID);
    assert.doesNotMatch(id, /--/);
    assert.equal(encodeURIComponent(id), id, "it stands in an address as it is");
  }
});

answers("B24 an altered ID is taken for forged: its payment matches nobody, the visit goes on under a signed one", async ({ web, page }) => {
  web.page("/", `${web.tag}<a href="${web.pay()}">Buy</a>`);
  const genuine = await openReady(page, web.shop("/?gclid=one"));
  await web.posts.next();
  // Its answer sets the cookie once more; what is altered before would be set right again.
  await page.waitForFunction(() => performance.getEntriesByType("resource").some(({ name }) => name.endsWith("/v")));
  const last = genuine.at(-1);
  const altered = genuine.slice(0, -1) + (last === "0" ? "1" : "0");
  await page.evaluate((id) => {
    document.cookie = `_ck=${id};path=/;max-age=99999;domain=shop.localhost`;
    localStorage._ck = id;
  }, altered);
  await age(page, 31);
  let answer;
  web.holdPosts = new Promise((resolve) => (answer = resolve));
  assert.equal(await openReady(page, web.shop()), altered, "the browser cannot tell");
  await assertStamped(page, "a", "href", web.pay(), altered);
  assert.equal((await web.posts.next()).i, altered);
  answer();
  await page.waitForFunction((id) => !document.cookie.includes(id), {}, altered);
  const signed = await cookie(page, "_ck");
  assert.match(signed, CLICK_ID);
  assert.notEqual(signed, genuine);
  await page.click("a");
  assert.equal(referenceOf(await web.payments.next()), altered);

  for (const [reference, id, match] of [
    [altered, "cs_live_b24_altered", { state: "unmatched", by: null, reason: "forged_click_id", click_id: null }],
    [genuine, "cs_live_b24_genuine", { state: "matched", by: "click_id", reason: null, click_id: genuine }],
  ]) {
    assert.equal((await sendWebhook(server, SECRET, paidWith(reference, id))).status, 200);
    const { data } = await askUntil(server, API_TOKEN, "/conversions", ({ data }) => data.some(({ transaction_id }) => transaction_id === id));
    assert.deepEqual(data.find(({ transaction_id }) => transaction_id === id).match, match, id);
  }
  assert.equal((await askApi(server, API_TOKEN, `/visits/${signed}`)).visits.length, 1);
}, { webKitCannot: undefined });

answers("B25 the gzipped body is whole, is as long as it says, and comes only where it was offered", async ({ web, page }) => {
  const seen = [];
  page.on("response", (response) => response.url().endsWith("/t/main.js") && seen.push(response));
  web.page("/", direct());
  const id = await openReady(page, web.foreignUrl("127.0.0.1"));
  const entry = await sizesOfTag(page);
  const headers = seen[0].headers();
  assert.equal(headers["content-encoding"], "gzip");
  assert.equal(Number(headers["content-length"]), entry[0]);
  assert.ok(entry[1] > entry[0], "and the browser has unpacked it");
  assert.match(id, CLICK_ID);

  // The same bytes for programs that look closer than browsers do.
  const ask = (offer) =>
    new Promise((resolve, reject) =>
      import("node:http").then(({ get }) =>
        get(`${server.url}/t/main.js`, { headers: offer === undefined ? {} : { "accept-encoding": offer } }, async (response) => {
          const chunks = [];
          for await (const chunk of response) chunks.push(chunk);
          resolve({ coding: response.headers["content-encoding"], length: Number(response.headers["content-length"]), body: Buffer.concat(chunks) });
        }).on("error", reject),
      ),
    );
  for (const offer of ["gzip", "gzip, deflate, br, zstd", "br;q=1, gzip;q=0.1"]) {
    const { coding, length, body } = await ask(offer);
    assert.deepEqual([coding, length], ["gzip", body.length], offer);
    execFileSync("gunzip", ["--test"], { input: body, stdio: ["pipe", "ignore", "pipe"] });
    assert.match(bakedIn(gunzipSync(body).toString()), CLICK_ID);
  }
  for (const offer of [undefined, "identity", "br", "deflate", "gzip;q=0", "gzip;q=0.000, br", "*;q=0"]) {
    const { coding, length, body } = await ask(offer);
    assert.deepEqual([coding, length], [undefined, body.length], offer);
    assert.match(bakedIn(body.toString()), CLICK_ID);
  }
});

answers("C30 line breaks, 70 kB and letters of other scripts in a body set no cookie and no header", async ({ web, page, visitor }) => {
  // Served by the page's own host, so that the page may read the answers.
  web.tagHosts.add("www.shop.localhost");
  web.page("/", `<script async src="/t/main.js"></script>`);
  const id = await openReady(page, web.shop());
  await web.posts.next();
  const jar = async () => (await visitor.context.cookies()).map(({ name, value, domain }) => [name, value, domain]).filter(([name]) => name !== "_ck_s").sort();
  const before = await jar();
  assert.deepEqual(before.map(([name, value]) => [name, value]), [["_ck", id]]);
  const evil = ["\r\nSet-Cookie: evil=1", "\nSet-Cookie: evil=1", "; evil=1", ";domain=localhost", "\u0000", "é漢\u2028", '"', "x".repeat(70_000)];
  const statuses = await page.evaluate(async ({ id, evil }) => {
    const send = async (fields) => {
      // What the page puts into its own cookie is what it says in the body, as far as a cookie can hold it.
      document.cookie = `_ck=${String(fields.i).replace(/[^\w-]/g, "").slice(0, 3000)};path=/;domain=shop.localhost`;
      const answer = await fetch("/v", { method: "POST", body: JSON.stringify({ s: "main", t: Date.now(), ...fields }) });
      document.cookie = `_ck=${id};path=/;max-age=34560000;domain=shop.localhost`;
      return [answer.status, await answer.text(), [...answer.headers.keys()].filter((name) => /evil|cookie/.test(name))];
    };
    const all = [];
    for (const tail of evil) all.push(await send({ i: id + tail }), await send({ i: tail }), await send({ i: id, u: location.href, r: tail, p: tail, k: tail, evil: tail }));
    return all;
  }, { id, evil });
  statuses.forEach(([status, text, headers], at) => {
    const isGood = at % 3 === 2 && at < statuses.length - 1;
    assert.equal(status, isGood ? 204 : at >= statuses.length - 3 ? 413 : 400, `${at}: ${text}`);
    assert.ok(text.split("\n").length <= 2, text);
    assert.deepEqual(headers, []);
  });
  assert.deepEqual(await jar(), before);
  assert.ok((await postsSoFar({ web, page })).length >= evil.length);
}, { console: [/status of (400|413)/] });
