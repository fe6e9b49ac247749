// The tag that stores nothing: the server sends it to sites without cookies, with the config `y`.
// Checks that it neither reads nor writes cookies and storage, that it deletes what the storing tag kept, and that
// stamping, events and retries work with what the document alone knows.

import assert from "node:assert/strict";
import { test } from "node:test";
import { CLICK_ID, link, withBothCookielessTags } from "./lib/visitor.mjs";

const SHOP = "https://www.shop.com/";
const AD = `${SHOP}?gclid=Cj0KCQ`;
const PAY = "https://buy.stripe.com/abc?client_reference_id=";
const TOKEN = "--CLICK-ID--";
const config = { y: 1 };
const ENDED = /^_ck(_s|_q)?=[^;]*;path=\/;max-age=0/;
const settle = () => new Promise(setImmediate);

/** Opens a page and records every touch of cookies and storages in `page.touched`. */
const watch = (visitor, url, options = {}) => {
  const touched = [];
  const storage = (name) =>
    new Proxy({}, {
      get: (_, key) => void touched.push(`${name} get ${String(key)}`),
      set: (_, key) => (touched.push(`${name} set ${String(key)}`), true),
      has: (_, key) => (touched.push(`${name} has ${String(key)}`), false),
      ownKeys: () => (touched.push(`${name} keys`), []),
      deleteProperty: (_, key) => (touched.push(`${name} delete ${key}`), true),
    });
  const page = visitor.open(url, {
    ...options,
    config: { ...config, ...options.config },
    change: (globals) => {
      Object.assign(globals, { localStorage: storage("local"), sessionStorage: storage("session") });
      Object.defineProperty(globals, "indexedDB", { get: () => void touched.push("indexedDB") });
      Object.defineProperty(globals.document, "cookie", {
        get: () => (touched.push("cookie get"), `_ck=ck_0${"k".repeat(31)}; _ck_s=.${visitor.now / 1000}; _fbp=fb.1.2.3`),
        set: (text) => void touched.push(`cookie set ${text}`),
      });
      options.change?.(globals);
    },
  });
  page.touched = touched;
  return page;
};

/** What may happen: the cookies and entries of the storing tag end. */
const assertOnlyDeletes = ({ touched }) => {
  for (const touch of touched) assert.ok(/^local delete _ck(_s|_q)?$/.test(touch) || ENDED.test(touch.replace("cookie set ", "")), touch);
};

withBothCookielessTags((tag, newVisitor) => {
  test(`${tag}: it reads nothing and writes nothing but the end of what was kept`, () => {
    const visitor = newVisitor();
    const page = watch(visitor, AD, { referrer: "https://www.google.com/" });
    const atStart = page.touched.slice();
    for (const event of ["popstate", "pageshow", "click", "pointerdown", "submit"]) page.fire(event, { persisted: true, composedPath: () => [] });
    page.route(`${SHOP}?gclid=other`);
    page.globals.clickstamp("event", "Lead");
    assertOnlyDeletes(page);
    assert.deepEqual(page.touched, atStart, "and that at the start alone");
    // A cookie of this host and the one of all its hosts, for each name; and the storage.
    for (const name of ["_ck", "_ck_s", "_ck_q"]) {
      const ends = atStart.filter((touch) => touch.startsWith(`cookie set ${name}=`));
      assert.deepEqual(ends.map((touch) => touch.includes(";domain=shop.com")), [false, true]);
      assert.ok(atStart.includes(`local delete ${name}`), name);
    }
    assert.deepEqual(page.said, []);
  });

  test(`${tag}: what the storing tag kept is gone after one page`, () => {
    const visitor = newVisitor();
    for (const name of ["_ck", "_ck_s", "_ck_q"]) visitor.cookies.set(name, "x"), (visitor.storage[name] = "x");
    visitor.cookies.set("session", "shop");
    visitor.storage.cart = "1";
    visitor.open(AD, { config });
    assert.deepEqual([...visitor.cookies], [["session", "shop"]]);
    assert.deepEqual({ ...visitor.storage }, { cart: "1" });
  });

  test(`${tag}: each page is a visit with the ID of its script, without a previous one and without ad cookies`, () => {
    const visitor = newVisitor();
    const seen = new Set();
    for (const path of ["?gclid=x", "offer", "cart"]) {
      const page = watch(visitor, SHOP + path);
      assert.match(page.id, /^ck_0/);
      seen.add(page.id);
      assert.deepEqual(page.posts, [{ t: visitor.now, s: "main", i: page.id, u: SHOP + path }]);
      const { method, keepalive, mode, credentials, headers } = page.requests[0].options;
      assert.deepEqual([method, !!keepalive, mode, credentials, headers], ["POST", true, undefined, "omit", undefined]);
    }
    assert.equal(seen.size, 3);
  });

  test(`${tag}: inside one document, routes keep the ID, and a new ad click gets another`, () => {
    const page = watch(newVisitor(), AD);
    const { id } = page;
    page.route(`${SHOP}offer`);
    page.route(AD);
    page.fire("pageshow", { persisted: true });
    assert.deepEqual([page.id, page.posts.length], [id, 1]);
    page.route(`${SHOP}?gclid=other`);
    assert.match(page.id, /^ck_z/);
    assert.deepEqual(page.posts.map(({ i, p }) => [i, p]), [[id, undefined], [page.id, id]]);
  });

  test(`${tag}: links are stamped when they are used, and ready, url and event work`, () => {
    const [used, unused] = [link(PAY + TOKEN), link(PAY + TOKEN)];
    const page = watch(newVisitor(), SHOP, { elements: [used, unused] });
    assert.match(page.id, CLICK_ID);
    assert.deepEqual(page.ready, [page.id]);
    page.mutate([{ target: used, addedNodes: [unused] }]);
    assert.equal(used.getAttribute("href"), PAY + TOKEN);
    page.fire("pointerdown", { composedPath: () => [used] });
    assert.deepEqual([used, unused].map((element) => element.getAttribute("href")), [PAY + page.id, PAY + TOKEN]);
    page.globals.open(PAY + TOKEN);
    assert.deepEqual(page.opened, [[PAY + page.id]]);
    assert.equal(page.globals.clickstamp("url", TOKEN), page.id);
    page.globals.clickstamp("ready", (id) => (page.heard = id));
    assert.equal(page.heard, page.id);
    page.globals.clickstamp("event", "Lead", { plan: "pro" });
    assert.deepEqual([page.posts[1].e, page.posts[1].v], ["Lead", { plan: "pro" }]);
  });

  for (const [name, answer] of [
    ["a status of 503", () => ({ then: (work) => work({ status: 503 }) })],
    ["no connection", () => Promise.reject(new TypeError("offline"))],
  ])
    test(`${tag}: after ${name} the body is sent again by this document, less and less often`, async () => {
      const visitor = newVisitor();
      let isAway = true;
      const page = watch(visitor, AD, { answer: () => (isAway ? answer() : { then: (work) => work({ status: 204 }) }) });
      await settle();
      const waits = [];
      for (let round = 0; round < 3; round++) {
        waits.push(page.timers.map(([wait]) => wait));
        isAway = round < 1;
        page.tick();
        await settle();
      }
      assert.deepEqual(waits, [[30_000], [60_000], []]);
      assert.equal(new Set(page.requests.map(({ options }) => options.body)).size, 1);
      assert.equal(page.requests.length, 3);
      assertOnlyDeletes(page);
      const next = watch(visitor, `${SHOP}offer`);
      assert.equal(next.posts.length, 1, "no other document sends it");
    });

  test(`${tag}: consent withdrawn stops everything, also what waits to be sent again`, () => {
    const [used, unused] = [link(PAY + TOKEN), link(PAY + TOKEN)];
    const page = watch(newVisitor(), AD, { elements: [used, unused], answer: () => ({ then: (work) => work({ status: 503 }) }) });
    page.fire("pointerdown", { composedPath: () => [used] });
    page.globals.clickstamp("consent", false);
    for (const element of [used, unused]) assert.equal(element.getAttribute("href"), PAY + TOKEN);
    page.tick();
    page.fire("pointerdown", { composedPath: () => [used] });
    page.globals.clickstamp("event", "Lead");
    page.route(`${SHOP}?gclid=other`);
    assert.deepEqual([page.id, page.requests.length], ["", 1]);
    assert.equal(used.getAttribute("href"), PAY + TOKEN);
    assertOnlyDeletes(page);
  });

  test(`${tag}: where a site asks, nothing happens before consent`, () => {
    const element = link(PAY + TOKEN);
    const page = watch(newVisitor(), AD, { elements: [element], config: { m: 1 } });
    page.fire("pointerdown", { composedPath: () => [element] });
    assert.deepEqual([page.id, page.requests.length, element.getAttribute("href")], ["", 0, PAY + TOKEN]);
    page.globals.clickstamp("consent", true);
    page.fire("pointerdown", { composedPath: () => [element] });
    assert.deepEqual([page.requests.length, element.getAttribute("href")], [1, PAY + page.id]);
    assertOnlyDeletes(page);
  });

  test(`${tag}: cookies and storage that refuse change nothing`, () => {
    const refuse = () => {
      throw new Error("refused by the page");
    };
    const element = link(PAY + TOKEN);
    const page = newVisitor().open(AD, { config, elements: [element], change: (globals) => {
      Object.defineProperty(globals, "localStorage", { get: refuse });
      Object.defineProperty(globals.document, "cookie", { get: refuse, set: refuse });
    } });
    page.fire("click", { composedPath: () => [element] });
    assert.deepEqual([element.getAttribute("href"), page.posts.length, page.said], [PAY + page.id, 1, []]);
  });
});
