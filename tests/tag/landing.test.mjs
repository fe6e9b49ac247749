// Which click ID a landing gets, and whether it is sent as a visit.
// Tests every row of the landing table under its name, with the state before it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { CLICK_ID, withBothTags } from "./lib/visitor.mjs";

const SHOP = "https://www.shop.com/";
const AD = `${SHOP}?gclid=Cj0KCQ`;

/** Steps: a URL with how it was reached, or minutes that pass. The last step is the row; the others came before. */
const TABLE = [
  ["first visit, nothing stored", [[SHOP]], "new", true],
  ["ad click ID, session live", [[AD], 5, [`${SHOP}?gclid=other`]], "new", true],
  ["ad click ID, session over", [[AD], 45, [`${SHOP}?gclid=other`]], "new", true],
  ["UTM, signature differs, session live", [[SHOP], 5, [`${SHOP}?utm_source=mail`]], "new", true],
  ["UTM, signature differs, session over", [[SHOP], 45, [`${SHOP}?utm_source=mail`]], "new", true],
  ["UTM in the hash", [[SHOP], 5, [`${SHOP}#utm_source=mail`]], "new", true],
  ["UTM in the hash's own query", [[SHOP], 5, [`${SHOP}#/offer?utm_source=mail`]], "new", true],
  ["same signature, session live: reload", [[AD], 5, [AD, { type: "reload" }]], "kept", false],
  ["same signature, session live: back", [[AD], 5, [AD, { type: "back_forward" }]], "kept", false],
  ["same signature, session live: query kept on inner pages", [[AD], 5, [`${SHOP}offer?gclid=Cj0KCQ`]], "kept", false],
  ["same signature, session over: restored tab, bookmark", [[AD], 45, [AD]], "kept", true],
  ["same signature after an inner page", [[AD], 5, [SHOP], 5, [AD]], "kept", false],
  ["external referrer, session over", [[AD], 45, [SHOP, { referrer: "https://www.google.com/" }]], "new", true],
  ["external referrer, session live", [[AD], 5, [SHOP, { referrer: "https://pay.example/" }]], "kept", false],
  ["external referrer on a reload, session over", [[AD], 45, [SHOP, { referrer: "https://www.google.com/", type: "reload" }]], "kept", true],
  ["own referrer, session over", [[AD], 45, [SHOP, { referrer: "https://blog.shop.com/" }]], "kept", true],
  ["own referrer, session live", [[AD], 5, [SHOP, { referrer: "https://blog.shop.com/" }]], "kept", false],
  ["same host, though no domain is set", [[SHOP], 45, [SHOP, { referrer: SHOP, config: { o: "^https?://stripe\\.com/" } }]], "kept", true],
  ["Stripe referrer, session over", [[AD], 45, [SHOP, { referrer: "https://checkout.stripe.com/" }]], "kept", true],
  ["Stripe referrer, session live", [[AD], 5, [SHOP, { referrer: "https://buy.stripe.com/x" }]], "kept", false],
  ["PayPal referrer, session over", [[AD], 45, [SHOP, { referrer: "https://www.paypal.com/" }]], "kept", true],
  ["ignored referrer, session over", [[AD], 45, [SHOP, { referrer: "https://ignored.example/" }]], "kept", true],
  ["look-alike of an own referrer, session over", [[AD], 45, [SHOP, { referrer: "https://shop.com.evil.example/" }]], "new", true],
  ["direct, session over: last non-direct click", [[AD], 45, [SHOP]], "kept", true],
  ["direct, session live", [[AD], 5, [SHOP]], "kept", false],
  ["reload, session over", [[SHOP], 45, [SHOP, { type: "reload" }]], "kept", true],
  ["history navigation, session over", [[SHOP], 45, [SHOP, { type: "back_forward" }]], "kept", true],
  ["activity keeps the session live", [[AD], 20, [SHOP], 20, [SHOP]], "kept", false],
  ["midnight passes", [[SHOP], 29 * 24 + 23, [SHOP], 1, [SHOP]], "kept", false],
  ["the same parameters in another order", [[`${SHOP}?gclid=B&utm_source=x`], 5, [`${SHOP}?utm_source=x&gclid=B`]], "kept", false],
  ["some of the same parameters", [[`${SHOP}?gclid=B&utm_source=x`], 5, [`${SHOP}offer?gclid=B`]], "kept", false],
  ["all of them again, after some", [[`${SHOP}?gclid=B&utm_source=x`], 5, [`${SHOP}?gclid=B`], 5, [`${SHOP}?gclid=B&utm_source=x`]], "kept", false],
  ["one that is new beside the same", [[`${SHOP}?gclid=B&utm_source=x`], 5, [`${SHOP}?gclid=C&utm_source=x`]], "new", true],
  ["back to an earlier ad click", [[AD], 5, [`${SHOP}?gclid=other`], 5, [AD, { type: "back_forward" }]], "kept", false],
  ["reload of an earlier ad click", [[AD], 5, [`${SHOP}?gclid=other`], 5, [AD, { type: "reload" }]], "kept", false],
  ["parameter present but empty", [[SHOP], 5, [`${SHOP}?gclid=&utm_source=`]], "kept", false],
];

withBothTags((tag, newVisitor) => {
  for (const [name, steps, expected, isVisit] of TABLE)
    test(`${tag}: ${name}`, () => {
      const visitor = newVisitor();
      let before, page;
      for (const step of steps) {
        if (typeof step === "number") {
          visitor.wait(step);
          continue;
        }
        before = page?.id;
        page = visitor.open(...step);
      }
      assert.match(page.id, CLICK_ID);
      assert.equal(page.id === before ? "kept" : "new", expected);
      assert.equal(page.posts.length, isVisit ? 1 : 0);
      if (isVisit) assert.equal(page.posts[0].p, before, "p names the click ID before");
      assert.equal(visitor.cookies.get("_ck"), page.id);
    });

  test(`${tag}: with storage blocked every page is a first visit, but no change inside it`, () => {
    const visitor = newVisitor();
    const change = (globals) => {
      delete globals.localStorage;
      Object.defineProperty(globals.document, "cookie", { get: () => "", set: () => {} });
    };
    const first = visitor.open(AD, { change });
    first.route(`${SHOP}offer?gclid=Cj0KCQ`);
    first.fire("pageshow", { persisted: true });
    const second = visitor.open(AD, { change });
    assert.equal(first.posts.length, 1);
    assert.equal(second.posts.length, 1);
    assert.notEqual(first.id, second.id);
  });

  test(`${tag}: a route with a new ad click ID is a new click, and the baked ID is spent`, () => {
    const page = newVisitor().open(SHOP);
    const first = page.id;
    page.route(`${SHOP}offer`);
    assert.equal(page.id, first);
    page.route(`${SHOP}offer?gclid=x`);
    assert.match(page.id, /^ck_z/);
    assert.deepEqual(page.posts.map(({ i, p }) => [i, p]), [[first, undefined], [page.id, first]]);
  });

  test(`${tag}: the landing's query counts, though a router stripped it`, () => {
    const page = newVisitor().open(AD, { change: (globals) => (globals.location.href = SHOP) });
    assert.equal(page.posts[0].u, AD);
    page.fire("navigation currententrychange");
    assert.equal(page.posts.length, 1);
  });

  test(`${tag}: a page that comes back takes the newer click ID of another tab`, () => {
    const visitor = newVisitor();
    const first = visitor.open(SHOP);
    const second = visitor.open(AD);
    first.fire("pageshow", { persisted: true });
    assert.equal(first.id, second.id);
    assert.equal(first.posts.length, 1);
  });

  test(`${tag}: back from paying, Stripe's session is told once, though the session lives`, () => {
    const visitor = newVisitor();
    const { id } = visitor.open(AD);
    visitor.wait(5);
    const page = visitor.open(`${SHOP}thanks?session_id=cs_live_1`, { referrer: "https://checkout.stripe.com/" });
    assert.deepEqual(page.posts.map(({ i, p, u }) => [i, p, u]), [[id, id, `${SHOP}thanks?session_id=cs_live_1`]]);
    page.fire("pageshow", { persisted: true });
    page.fire("popstate");
    assert.equal(page.posts.length, 1);
  });

  test(`${tag}: a page that is shown for the first time has landed already`, () => {
    const visitor = newVisitor();
    const page = visitor.open(AD);
    const { id } = page;
    page.fire("pageshow", { persisted: false });
    assert.deepEqual([page.id, page.posts.length, page.ready], [id, 1, [id]]);
  });

  test(`${tag}: a prerendered page waits until it is shown`, () => {
    const page = newVisitor().open(AD, { change: (globals) => (globals.document.prerendering = true) });
    assert.deepEqual([page.id, page.posts.length], ["", 0]);
    page.fire("prerenderingchange");
    assert.match(page.id, CLICK_ID);
    assert.equal(page.posts.length, 1);
  });

  test(`${tag}: a script older than 300 s, or from the future, gives its click ID to nobody`, () => {
    for (const [age, isUsed] of [[0, true], [299, true], [300, false], [600, false], [-299, true], [-300, false]]) {
      const visitor = newVisitor();
      const page = visitor.open(SHOP, { config: { t: visitor.now / 1000 - age } });
      assert.equal(page.id === "ck_0" + "0".padStart(31, "a"), isUsed, `age ${age} s`);
      assert.match(page.id, CLICK_ID);
    }
    assert.match(newVisitor().open(SHOP, { config: { i: undefined, t: undefined } }).id, /^ck_z[0-9a-v]{32}$/);
  });
});
