// Calls of the page, before, during and after the start of the tag.
// Checks that each call takes effect once and in order, and that no call throws, whatever its arguments.

import assert from "node:assert/strict";
import { test } from "node:test";
import { link, StubElement, withBothTags } from "./lib/visitor.mjs";

const SHOP = "https://www.shop.com/";
const TOKEN = "--CLICK-ID--";

/** The queue stub that pages put before the tag. */
const queueStub = () => {
  const stub = function () {
    (stub.q = stub.q || []).push(arguments);
  };
  return stub;
};

withBothTags((tag, newVisitor) => {
  test(`${tag}: what was queued runs in order, once, before the ready event`, () => {
    const stub = queueStub();
    const order = [];
    const page = newVisitor();
    const early = new StubElement("section", {}, [link(TOKEN)]);
    stub("scan", early);
    stub("ready", (id) => order.push(["first", id]));
    stub("ready", (id) => order.push(["second", id]));
    const opened = page.open(SHOP, { stub });
    assert.deepEqual(order, [["first", opened.id], ["second", opened.id]]);
    assert.deepEqual(opened.ready, [opened.id]);
    assert.equal(early.children[0].getAttribute("href"), opened.id);
  });

  test(`${tag}: ready after the start calls back at once`, () => {
    const page = newVisitor().open(SHOP);
    let seen;
    page.globals.clickstamp("ready", (id) => (seen = id));
    assert.equal(seen, page.id);
  });

  test(`${tag}: url fills in the click ID, and is unchanged without one`, () => {
    const page = newVisitor().open(SHOP, { change: (globals) => (globals.document.prerendering = true) });
    const url = `https://pay.example/?a=${TOKEN}#b`;
    assert.equal(page.globals.clickstamp("url", url), url);
    page.fire("prerenderingchange");
    assert.equal(page.globals.clickstamp("url", url), url.replace(TOKEN, page.id));
    assert.equal(page.globals.clickstamp("url", "https://pay.example/"), "https://pay.example/");
  });

  test(`${tag}: calls before the click ID wait for it`, () => {
    const page = newVisitor().open(SHOP, { change: (globals) => (globals.document.prerendering = true) });
    const seen = [];
    const root = new StubElement("section", {}, [link(TOKEN)]);
    page.globals.clickstamp("ready", (id) => seen.push(id));
    page.globals.clickstamp("scan", root);
    assert.deepEqual([seen, page.posts], [[], []]);
    page.fire("prerenderingchange");
    assert.deepEqual(seen, [page.id]);
    assert.equal(root.children[0].getAttribute("href"), page.id);
  });

  test(`${tag}: scan reaches what the tag cannot see, and the document by default`, () => {
    const hidden = new StubElement("section", {}, [link(TOKEN)]);
    const late = link(TOKEN);
    const page = newVisitor().open(SHOP);
    page.globals.clickstamp("scan", hidden);
    page.elements.push(late);
    page.globals.clickstamp("scan");
    assert.equal(hidden.children[0].getAttribute("href"), page.id);
    assert.equal(late.getAttribute("href"), page.id);
  });

  test(`${tag}: an event is posted with its name, its properties and the page`, () => {
    const visitor = newVisitor();
    const page = visitor.open(`${SHOP}?gclid=x`);
    page.route(`${SHOP}signup?gclid=x`);
    page.globals.clickstamp("event", "Lead", { plan: "pro", seats: 0, trial: false });
    const { id } = page;
    assert.deepEqual(page.posts[1], { s: "main", i: id, t: visitor.now, u: `${SHOP}signup?gclid=x`, e: "Lead", v: { plan: "pro", seats: 0, trial: false } });
    page.globals.clickstamp("event", "Call");
    assert.deepEqual(Object.keys(page.posts[2]), ["t", "s", "i", "u", "e"]);
  });

  test(`${tag}: events before the click ID follow the visit`, () => {
    const stub = queueStub();
    stub("event", "Lead");
    const page = newVisitor().open(SHOP, { stub });
    assert.deepEqual(page.posts.map(({ e }) => e), [undefined, "Lead"]);
  });

  test(`${tag}: nonsense does nothing`, () => {
    const page = newVisitor().open(SHOP);
    const { clickstamp } = page.globals;
    for (const call of [[], ["unknown"], ["__proto__"], [null], ["ready"], ["ready", 7], ["scan", 7], ["scan", "text"], ["ready", () => { throw new Error("the page's own"); }]])
      assert.doesNotThrow(() => clickstamp(...call), call.join());
    assert.deepEqual(page.said, []);
  });
});
