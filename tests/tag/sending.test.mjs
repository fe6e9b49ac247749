// Requests to the server: visits and events, their keys and limits, and the one body that is stored for a retry.
// Checks that nothing waits for a response, and that a body which could not be sent is sent again once, unchanged.

import assert from "node:assert/strict";
import { test } from "node:test";
import { withBothTags } from "./lib/visitor.mjs";

const SHOP = "https://www.shop.com/";
const offline = () => Promise.reject(new TypeError("offline"));
/** Lets the promises that are settled run their course. */
const settle = () => new Promise(setImmediate);

withBothTags((tag, newVisitor) => {
  test(`${tag}: a bare visit has the bare keys`, () => {
    const visitor = newVisitor();
    const page = visitor.open(SHOP);
    assert.deepEqual(page.posts, [{ s: "main", i: page.id, t: visitor.now, u: SHOP }]);
    const { method, keepalive, mode, credentials, headers } = page.requests[0].options;
    assert.equal(page.requests[0].to, "https://go.shop.com/v");
    // A simple request whose answer the tag may read.
    assert.deepEqual([method, !!keepalive, mode, credentials, headers], ["POST", true, undefined, "include", undefined]);
  });

  test(`${tag}: a full visit has them all, each within its limit`, () => {
    const visitor = newVisitor();
    visitor.open(SHOP);
    const before = visitor.cookies.get("_ck");
    const kept = ["_fbp=fb.1.2.3", "_fbc=fb.1.2.abc", "_gcl_aw=GCL.1.x", "_ga=GA1.1.2", "_ttp=t", "_uetsid=u", "_scid=s", "_rdt_uuid=r", "_atcid=a", "li_fat_id=l"];
    for (const pair of [...kept, "session=secret", "x_fbp=no", "_my_ga=no"]) visitor.cookies.set(...pair.split("="));
    const page = visitor.open(`${SHOP}?gclid=new`, {
      referrer: "https://www.google.com/search?q=a",
      change: ({ navigator }) => Object.assign(navigator, { webdriver: true, globalPrivacyControl: true }),
    });
    const { p, r, k, f, u } = page.posts[0];
    assert.deepEqual({ p, r, k, f, u }, { p: before, r: "https://www.google.com/search?q=a", k: kept.join(), f: 3, u: `${SHOP}?gclid=new` });

    visitor.cookies.set("_ga_long", "x".repeat(3000));
    const long = visitor.open(`${SHOP}?gclid=${"y".repeat(8000)}`, { referrer: `https://a.example/${"z".repeat(3000)}` }).posts[0];
    assert.deepEqual([long.u.length, long.r.length, long.k.length], [4096, 1024, 1500]);
  });

  test(`${tag}: each privacy bit by itself`, () => {
    for (const [bits, f] of [[{ webdriver: true }, 1], [{ globalPrivacyControl: true }, 2], [{ globalPrivacyControl: false }, undefined]])
      assert.equal(newVisitor().open(SHOP, { change: ({ navigator }) => Object.assign(navigator, bits) }).posts[0].f, f);
  });

  test(`${tag}: an unsent body is kept, sent once on the next load, and unchanged`, async () => {
    const visitor = newVisitor();
    const first = visitor.open(SHOP, { answer: offline });
    await settle();
    const kept = visitor.storage._ck_q;
    assert.deepEqual(JSON.parse(kept), first.posts[0]);

    const second = visitor.open(SHOP);
    await settle();
    assert.deepEqual(second.requests.map(({ options }) => options.body), [kept]);
    assert.ok(!visitor.storage._ck_q);
    assert.equal(visitor.open(SHOP).requests.length, 0);
  });

  test(`${tag}: if that fails too it is kept again`, async () => {
    const visitor = newVisitor();
    visitor.open(SHOP, { answer: offline });
    await settle();
    const kept = visitor.storage._ck_q;
    visitor.open(SHOP, { answer: offline });
    await settle();
    assert.equal(visitor.storage._ck_q, kept);
  });

  test(`${tag}: the last five unsent bodies are kept, in their order`, async () => {
    const visitor = newVisitor();
    const ids = [];
    for (let number = 0; number < 7; number++) {
      visitor.now += 1;
      ids.push(visitor.open(`${SHOP}?gclid=${number}`, { answer: offline }).id);
      await settle();
    }
    assert.deepEqual(visitor.storage._ck_q.split("\n").map((body) => JSON.parse(body).i), ids.slice(2));
    const page = visitor.open(SHOP);
    assert.deepEqual(page.posts.map(({ i }) => i), ids.slice(2));
    assert.ok(!visitor.storage._ck_q);
  });

  for (const status of [429, 500, 502, 503])
    test(`${tag}: ${status} is no answer: the body is sent again after a while, and on the next page`, () => {
      const visitor = newVisitor();
      let refuses = true;
      const answer = () => ({ then: (work) => work({ status: refuses ? status : 204 }) });
      const first = visitor.open(SHOP, { answer });
      const [body] = first.requests.map(({ options }) => options.body);
      first.tick();
      assert.deepEqual(first.requests.map(({ options }) => options.body), [body, body]);
      const second = visitor.open(`${SHOP}offer`, { answer });
      assert.deepEqual(second.requests.map(({ options }) => options.body), [body]);
      refuses = false;
      second.tick();
      assert.ok(!visitor.storage._ck_q);
      assert.equal(visitor.open(`${SHOP}again`, { answer }).requests.length, 0);
    });

  test(`${tag}: a page that stays sends four times more, less and less often, what no answer came to`, async () => {
    const visitor = newVisitor();
    const page = visitor.open(SHOP, { answer: offline });
    const waits = [];
    for (let round = 0; round < 6; round++) {
      await settle();
      waits.push(...page.timers.map(([wait]) => wait));
      page.tick();
    }
    assert.deepEqual(waits, [30_000, 60_000, 120_000, 240_000]);
    assert.equal(page.requests.length, 5);
    assert.equal(new Set(page.requests.map(({ options }) => options.body)).size, 1);
    assert.equal(visitor.storage._ck_q, page.requests[0].options.body, "the next page has it");
  });

  test(`${tag}: a refused body is not sent again`, () => {
    const visitor = newVisitor();
    const page = visitor.open(SHOP, { answer: () => ({ then: (work) => work({ status: 400 }) }) });
    page.tick();
    assert.equal(page.requests.length, 1);
    assert.equal(visitor.open(`${SHOP}offer`).requests.length, 0);
  });

  test(`${tag}: a body too large for a page that is left is tried once`, async () => {
    const visitor = newVisitor();
    visitor.open(SHOP).globals.clickstamp("event", "Lead", { text: "x".repeat(70_000) });
    await settle();
    assert.ok(!visitor.storage._ck_q);
  });

  test(`${tag}: nothing is sent again after consent was withdrawn`, () => {
    const visitor = newVisitor();
    const page = visitor.open(SHOP, { answer: () => ({ then: (work) => work({ status: 503 }) }) });
    page.globals.clickstamp("consent", false);
    page.tick();
    assert.equal(page.requests.length, 1);
    assert.ok(!visitor.storage._ck_q);
  });
});
