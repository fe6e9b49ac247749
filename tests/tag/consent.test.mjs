// The tag before consent, with consent, and after consent was withdrawn.
// Checks cookies, storage, posts and stamped links: without consent nothing is stored, sent or stamped, and withdrawing
// it deletes what was stored.

import assert from "node:assert/strict";
import { test } from "node:test";
import { CLICK_ID, link, withBothTags } from "./lib/visitor.mjs";

const SHOP = "https://www.shop.com/";
const AD = `${SHOP}?gclid=Cj0KCQ`;
const TOKEN = "--CLICK-ID--";
const required = { m: 1 };

const assertSilent = (visitor, page, elements = []) => {
  assert.deepEqual([page.id, page.posts, page.ready, page.said], ["", [], [], []]);
  assert.deepEqual([[...visitor.cookies], { ...visitor.storage }], [[], {}]);
  for (const element of elements) assert.equal(element.getAttribute("href"), TOKEN);
};

withBothTags((tag, newVisitor) => {
  test(`${tag}: until consent is given nothing happens, then the landing counts as it was`, () => {
    const visitor = newVisitor();
    const element = link(TOKEN);
    const page = visitor.open(AD, { config: required, elements: [element] });
    for (const event of ["popstate", "pageshow", "click", "navigation currententrychange"])
      page.fire(event, { persisted: true, composedPath: () => [element] });
    page.globals.location.href = SHOP;
    assertSilent(visitor, page, [element]);
    page.globals.clickstamp("consent", true);
    assert.match(page.id, CLICK_ID);
    assert.equal(page.posts[0].u, AD, "the query that a router has stripped by now");
    assert.equal(element.getAttribute("href"), page.id);
    assert.deepEqual(page.ready, [page.id]);
    page.globals.clickstamp("consent", true);
    assert.equal(page.posts.length, 1);
    assert.equal(page.ready.length, 1);
  });

  test(`${tag}: consent that was queued before the tag counts at once, and what waited runs in order`, () => {
    const order = [];
    const q = [["ready", (id) => order.push(id)], ["consent", true], ["event", "Lead"]];
    const page = newVisitor().open(SHOP, { config: required, stub: Object.assign(() => {}, { q }) });
    assert.deepEqual(order, [page.id]);
    assert.deepEqual(page.posts.map(({ e }) => e), [undefined, "Lead"]);
  });

  test(`${tag}: refusal that was queued is heard before anything is sent, though the site requires nothing`, () => {
    const visitor = newVisitor();
    const element = link(TOKEN);
    const page = visitor.open(AD, { elements: [element], stub: Object.assign(() => {}, { q: [["consent", false]] }) });
    assertSilent(visitor, page, [element]);
  });

  test(`${tag}: consent given while the page is prerendered waits for its showing`, () => {
    const visitor = newVisitor();
    const page = visitor.open(AD, { config: required, change: (globals) => (globals.document.prerendering = true) });
    page.globals.clickstamp("consent", true);
    assertSilent(visitor, page);
    page.fire("prerenderingchange");
    assert.equal(page.posts.length, 1);
  });

  test(`${tag}: withdrawn: everything is deleted, the placeholder is back, and nothing happens any more`, async () => {
    const visitor = newVisitor();
    const element = link(`x?a=${TOKEN}`);
    visitor.storage._ck_q = "{}";
    const page = visitor.open(AD, { config: required, elements: [element], answer: () => Promise.reject(new Error("offline")) });
    page.globals.clickstamp("consent", true);
    page.globals.clickstamp("consent", false);
    await new Promise(setImmediate);
    assert.deepEqual([[...visitor.cookies], { ...visitor.storage }], [[], {}]);
    assert.equal(element.getAttribute("href"), `x?a=${TOKEN}`);
    assert.equal(page.id, "");
    const { length } = page.posts;
    page.globals.clickstamp("event", "Lead");
    page.fire("popstate");
    page.fire("pageshow", { persisted: true });
    page.fire("click", { composedPath: () => [element] });
    page.globals.open(TOKEN);
    assert.equal(page.globals.clickstamp("url", TOKEN), TOKEN);
    assert.equal(page.posts.length, length);
    assert.deepEqual(page.opened, [[TOKEN]]);
    assert.equal(element.getAttribute("href"), `x?a=${TOKEN}`);
    assert.deepEqual([[...visitor.cookies], { ...visitor.storage }], [[], {}]);
    // The next page asks again.
    assertSilent(visitor, visitor.open(AD, { config: required }));
  });

  test(`${tag}: withdrawn where links are stamped on use: those that were get the placeholder back`, () => {
    const element = link(`x?a=${TOKEN}`);
    const page = newVisitor().open(AD, { config: { y: 1 }, elements: [element] });
    page.fire("pointerdown", { composedPath: () => [element] });
    assert.equal(element.getAttribute("href"), `x?a=${page.id}`);
    page.globals.clickstamp("consent", false);
    assert.equal(element.getAttribute("href"), `x?a=${TOKEN}`);
  });

  test(`${tag}: given again after it was withdrawn: another click ID, as for somebody new`, () => {
    const page = newVisitor().open(AD, { config: required });
    page.globals.clickstamp("consent", true);
    const first = page.id;
    page.globals.clickstamp("consent", false);
    page.globals.clickstamp("consent", true);
    assert.match(page.id, CLICK_ID);
    assert.notEqual(page.id, first);
    assert.equal(page.posts.at(-1).p, undefined);
  });

  test(`${tag}: refused without anything kept: nothing is thrown`, () => {
    const visitor = newVisitor();
    const page = visitor.open(AD, { config: required });
    page.globals.clickstamp("consent", false);
    assertSilent(visitor, page);
  });
});
