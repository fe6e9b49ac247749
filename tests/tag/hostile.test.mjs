// Pages that break what the tag needs: throwing storage, overridden functions, missing parts, another tag.
// Checks that nothing is thrown or logged, and that links are stamped if that is possible.

import assert from "node:assert/strict";
import { test } from "node:test";
import { CLICK_ID, link, withBothTags } from "./lib/visitor.mjs";

const SHOP = "https://www.shop.com/?gclid=x";
const TOKEN = "--CLICK-ID--";
const refuse = () => {
  throw new Error("refused by the page");
};
const throwing = { get: refuse, set: refuse };

/** What is broken, how, and what must still be done: stamp the links, post the visit, say it is ready. */
const PAGES = [
  ["localStorage refuses", (page) => Object.defineProperty(page, "localStorage", throwing), "stamp post ready"],
  ["localStorage is null", (page) => (page.localStorage = null), "stamp post ready"],
  ["localStorage is full", (page) => (page.localStorage = new Proxy({}, { set: refuse })), "stamp post ready"],
  ["localStorage is full and fetch fails", (page) => {
    page.localStorage = new Proxy({}, { set: refuse });
    page.fetch = () => Promise.reject(new Error("offline"));
  }, "stamp ready"],
  ["cookies refuse", (page) => Object.defineProperty(page.document, "cookie", throwing), "stamp post ready"],
  ["cookies and localStorage refuse", (page) => {
    Object.defineProperty(page, "localStorage", throwing);
    Object.defineProperty(page.document, "cookie", throwing);
  }, "stamp post ready"],
  ["document.cookie is an element", (page) => Object.defineProperty(page.document, "cookie", { value: {} }), "stamp post ready"],
  ["fetch throws", (page) => (page.fetch = refuse), "stamp ready"],
  ["fetch gives nothing", (page) => (page.fetch = () => {}), "stamp ready"],
  ["fetch is missing", (page) => delete page.fetch, "stamp ready"],
  ["JSON.stringify throws", (page) => (page.JSON = { stringify: refuse, parse: JSON.parse }), "stamp ready"],
  ["navigator is odd", (page) => (page.navigator = {}), "stamp post ready"],
  ["no navigation entry", (page) => (page.performance.getEntriesByType = () => []), "stamp post ready"],
  ["no Navigation API", (page) => delete page.navigation, "stamp post ready"],
  ["queue is no list", (page) => (page.clickstamp = Object.assign(() => {}, { q: 7 })), "stamp post ready"],
  ["MutationObserver is missing", (page) => delete page.MutationObserver, "stamp post ready"],
  ["performance is missing", (page) => delete page.performance, "stamp post ready"],
  ["addEventListener throws", (page) => (page.addEventListener = refuse), "stamp post ready"],
  ["Navigation API is odd", (page) => (page.navigation = { addEventListener: refuse }), "stamp post ready"],
  ["no random numbers", (page) => delete page.crypto, "stamp post ready"],
];

withBothTags((tag, newVisitor) => {
  for (const [name, change, duties] of PAGES)
    test(`${tag}: ${name}`, () => {
      const element = link(TOKEN);
      const page = newVisitor().open(SHOP, { elements: [element], change });
      assert.equal(element.getAttribute("href") !== TOKEN, duties.includes("stamp"), "stamped");
      assert.equal(page.posts.length > 0, duties.includes("post"), "posted");
      assert.equal(page.ready.length > 0, duties.includes("ready"), "ready");
      assert.match(page.id, CLICK_ID);
      for (const use of ["click", "pointerdown", "submit", "navigation navigate", "popstate", "pageshow"])
        assert.doesNotThrow(() => page.fire(use, {}), use);
      assert.deepEqual(page.said, []);
    });

  test(`${tag}: without any click ID the page stays as it is, and calls do not pile up`, () => {
    const element = link(TOKEN);
    const stub = Object.assign(() => {}, { q: [["ready", refuse]] });
    const page = newVisitor().open(SHOP, { elements: [element], stub, config: { t: 0 }, change: (globals) => delete globals.crypto });
    assert.equal(element.getAttribute("href"), TOKEN);
    assert.deepEqual([page.id, page.posts, page.ready, page.said], ["", [], [], []]);
  });

  test(`${tag}: a form with the tag's name, and fields named like its members, is no other tag`, () => {
    const element = link(TOKEN);
    const form = { call: { name: "call" }, id: { name: "id" }, q: { name: "q" } };
    const page = newVisitor().open(SHOP, { elements: [element], change: (globals) => (globals.clickstamp = form) });
    assert.equal(element.getAttribute("href"), page.id);
    assert.deepEqual([page.posts.length, page.ready], [1, [page.id]]);
  });

  test(`${tag}: an attribute that the page guards costs only itself`, () => {
    const guarded = Object.assign(link(TOKEN), { setAttribute: refuse });
    const clobbered = Object.assign(link(TOKEN), { matches: {} });
    const element = link(TOKEN);
    const page = newVisitor().open(SHOP, { elements: [guarded, element] });
    assert.equal(element.getAttribute("href"), page.id);
    page.fire("click", { composedPath: () => [clobbered, guarded, (page.late = link(TOKEN))] });
    assert.equal(page.late.getAttribute("href"), page.id);
  });

  test(`${tag}: extended prototypes change nothing`, () => {
    const element = link(TOKEN);
    const before = "for (const type of [Object, Array, String]) type.prototype.extra = () => { throw new Error('extra') };";
    const page = newVisitor().open(SHOP, { elements: [element], before });
    assert.equal(element.getAttribute("href"), page.id);
    assert.deepEqual(Object.keys(page.posts[0]), ["t", "s", "i", "u"]);
  });

  test(`${tag}: a page that overrides window.open afterwards gets no recursion`, () => {
    const page = newVisitor().open(SHOP);
    const ours = page.globals.open;
    page.globals.open = (...args) => ours(...args);
    page.globals.open(TOKEN);
    assert.deepEqual(page.opened, [[page.id]]);
  });

  test(`${tag}: of two tags the first wins, and the second leaves quietly`, () => {
    const page = newVisitor().open(SHOP);
    const { id } = page;
    const first = page.globals.clickstamp;
    page.config = { ...page.config, s: "other", i: "ck_" + "o".repeat(32) };
    page.run();
    assert.equal(page.globals.clickstamp, first);
    assert.deepEqual([page.id, page.posts.length, page.ready.length, page.said.length], [id, 1, 1, 0]);
  });
});
