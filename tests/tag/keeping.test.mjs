// The cookies _ck and _ck_s and their copies in local storage, for landings with all states of both.
// Checks that the attributes are as documented, and that malformed values are never used as a click ID.

import assert from "node:assert/strict";
import { test } from "node:test";
import { CLICK_ID, withBothTags } from "./lib/visitor.mjs";

const SHOP = "https://www.shop.com/";
const STORED = "ck_0" + "s".repeat(31);

withBothTags((tag, newVisitor) => {
  test(`${tag}: both cookies have the documented attributes, then the server's`, () => {
    const visitor = newVisitor();
    const page = visitor.open(SHOP);
    const attributes = ";path=/;max-age=34560000;samesite=lax;domain=shop.com;secure";
    // Before each, one of this host alone is deleted: it would hide the one of all hosts.
    assert.deepEqual(visitor.cookieWrites, [
      "_ck=;path=/;max-age=0",
      `_ck=${page.id}${attributes}`,
      "_ck_s=;path=/;max-age=0",
      `_ck_s=.${visitor.now / 1000}${attributes}`,
    ]);
    assert.deepEqual({ ...visitor.storage }, { _ck: page.id, _ck_s: `.${visitor.now / 1000}`, _ck_q: "" });
  });

  test(`${tag}: a cookie that holds the click ID is not written again, whoever set it`, () => {
    const visitor = newVisitor();
    visitor.cookies.set("_ck", STORED);
    assert.equal(visitor.open(SHOP).id, STORED);
    assert.deepEqual(new Set(visitor.cookieWrites.map((text) => text.split("=")[0])), new Set(["_ck_s"]));
    assert.equal(visitor.storage._ck, STORED);
  });

  test(`${tag}: the copy in localStorage serves when cookies are gone, and restores them`, () => {
    const visitor = newVisitor();
    const { id } = visitor.open(SHOP);
    visitor.cookies.clear();
    const page = visitor.open(SHOP);
    assert.equal(page.id, id);
    assert.equal(page.posts.length, 0, "the session lives on in the copy");
    assert.equal(visitor.cookies.get("_ck"), id);
  });

  test(`${tag}: of two cookies the later one wins, and it goes on when cookies are refused`, () => {
    const visitor = newVisitor();
    const change = (globals) =>
      Object.defineProperty(globals.document, "cookie", { get: () => `_ck=ck_0${"o".repeat(31)}; a=b; _ck=${STORED}`, set: () => {} });
    assert.equal(visitor.open(SHOP, { change }).id, STORED);

    const other = newVisitor();
    const refuse = (globals) => {
      Object.defineProperty(globals.document, "cookie", { get: () => "", set: () => {} });
      globals.localStorage = new Proxy({}, { set: () => true });
    };
    const page = other.open(`${SHOP}?gclid=A`, { change: refuse });
    const { id } = page;
    page.fire("pageshow", { persisted: false });
    page.route(`${SHOP}offer?gclid=A`);
    assert.deepEqual([page.id, page.posts.length], [id, 1]);
  });

  test(`${tag}: the cookie wins over the copy`, () => {
    const visitor = newVisitor();
    visitor.cookies.set("_ck", STORED);
    visitor.storage._ck = STORED.replace("s", "t");
    assert.equal(visitor.open(SHOP).id, STORED);
  });

  test(`${tag}: what does not look like a click ID is absent`, () => {
    for (const value of ["", "ck_", "ck_UPPERCASE" + "a".repeat(30), "ck_" + "a".repeat(28), "ck_" + "a".repeat(38), `x${STORED}`, `${STORED}-`, "<script>", "undefined"]) {
      const visitor = newVisitor();
      visitor.cookies.set("_ck", value).set("_ck_s", value);
      visitor.cookies.set("x_ck", STORED);
      visitor.storage._ck = value;
      const page = visitor.open(SHOP);
      assert.match(page.id, CLICK_ID);
      assert.notEqual(page.id, value);
      assert.notEqual(page.id, STORED);
      assert.equal(page.posts[0].p, undefined);
    }
  });

  test(`${tag}: client-made click IDs differ and have the same shape`, () => {
    const visitor = newVisitor();
    const ids = Array.from({ length: 50 }, (_, number) => visitor.open(`${SHOP}?gclid=${number}`, { config: { t: 0 } }).id);
    assert.equal(new Set(ids).size, 50);
    for (const id of ids) assert.match(id, /^ck_z[a-z0-9]{32}$/);
  });
});
