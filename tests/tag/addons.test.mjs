// The add-ons of the tag: auto mode, linked domains, AnyTrack and consent tools.
// Checks the stamped links, the AnyTrack click IDs that are sent and the calls of consent, and that nothing else
// changes.

import assert from "node:assert/strict";
import { test } from "node:test";
import { CLICK_ID, link, StubElement, withBothTags } from "./lib/visitor.mjs";

const SHOP = "https://www.shop.com/";
const PAY = "https://buy.stripe.com/abc";
const TOKEN = "--CLICK-ID--";
const ADOPTED = "ck_0" + "f".repeat(31);
/** What window.event is while the tag's capturing listeners run. */
const onUse = (...path) => ({ eventPhase: 1, composedPath: () => path });

withBothTags((tag, newVisitor) => {
  test(`${tag}: 59 60 auto mode appends or fills the reference, and never touches one that is there`, () => {
    const rows = [
      [PAY, `${PAY}?client_reference_id=ID`],
      [`${PAY}#top`, `${PAY}?client_reference_id=ID#top`],
      [`${PAY}?a=%zz&b#c?d`, `${PAY}?a=%zz&b&client_reference_id=ID#c?d`],
      ["https://buy.stripe.com/test_abc", "https://buy.stripe.com/test_abc?client_reference_id=ID"],
      ["https://book.stripe.com/a", "https://book.stripe.com/a?client_reference_id=ID"],
      ["https://donate.stripe.com/a", "https://donate.stripe.com/a?client_reference_id=ID"],
      [" HTTPS://Buy.Stripe.com/a", " HTTPS://Buy.Stripe.com/a?client_reference_id=ID"],
      ["//buy.stripe.com/a", "//buy.stripe.com/a?client_reference_id=ID"],
      [`${PAY}?client_reference_id=`, `${PAY}?client_reference_id=ID`],
      [`${PAY}?client_reference_id=&a=1#b`, `${PAY}?client_reference_id=ID&a=1#b`],
      [`${PAY}?a=1&client_reference_id=#b`, `${PAY}?a=1&client_reference_id=ID#b`],
      [`${PAY}?client_reference_id=${TOKEN}`, `${PAY}?client_reference_id=ID`],
      ...[
        `${PAY}?client%5Freference%5Fid=mine`, `${PAY}?client_reference_id=mine`, `${PAY}?a=1&client_reference_id=mine&b`,
        "https://checkout.stripe.com/c/pay/x", "https://billing.stripe.com/p/x", "https://stripe.com/x",
        "https://buy.stripe.com.evil.example/a", "https://buy.stripe.com@evil.example/a", "https://buy.stripe.com:x@evil.example/a",
        "https://evil.example/?u=https://buy.stripe.com/a", "https://xbuy.stripe.com/a", "/offer", "http://[", "",
      ].map((href) => [href, href]),
    ];
    for (const [href, expected] of rows) {
      const element = link(href);
      const { id } = newVisitor().open(SHOP, { elements: [element], addOns: ["auto"], config: { u: 1 } });
      assert.equal(element.getAttribute("href"), expected.replace("ID", id), href);
    }
    const hint = new StubElement("link", { rel: "preconnect", href: "https://buy.stripe.com/" });
    newVisitor().open(SHOP, { elements: [hint], addOns: ["auto"], config: { u: 1 } });
    assert.equal(hint.getAttribute("href"), "https://buy.stripe.com/", "a hint for the browser is no link");
    const plain = link(PAY);
    newVisitor().open(SHOP, { elements: [plain] });
    assert.equal(plain.getAttribute("href"), PAY, "off");
  });

  test(`${tag}: 59 auto mode knows the site's own payment hosts, later links and Stripe's elements`, () => {
    const own = link("https://pay.shop.com/x");
    const [bare, empty, taken] = [{}, { "client-reference-id": "" }, { "client-reference-id": "mine" }].map((more) => new StubElement("stripe-buy-button", { "publishable-key": "pk_1", ...more }));
    const h = "^https?://(buy\\.stripe\\.com|pay\\.shop\\.com)(:\\d+)?/";
    const page = newVisitor().open(SHOP, { elements: [own, bare, empty, taken], addOns: ["auto"], config: { u: 1, h } });
    assert.equal(own.getAttribute("href"), `https://pay.shop.com/x?client_reference_id=${page.id}`);
    for (const element of [bare, empty]) assert.equal(element.getAttribute("client-reference-id"), page.id);
    assert.ok(bare.replacedBy);
    assert.equal(taken.getAttribute("client-reference-id"), "mine");
    const late = link(PAY);
    page.mutate([{ target: late, addedNodes: [] }]);
    assert.equal(late.getAttribute("href"), `${PAY}?client_reference_id=${page.id}`);
    page.mutate([{ target: late, addedNodes: [] }]);
    assert.equal(late.getAttribute("href"), `${PAY}?client_reference_id=${page.id}`, "once");
    assert.equal(page.globals.clickstamp("url", PAY), `${PAY}?client_reference_id=${page.id}`);
    page.globals.open(PAY);
    assert.deepEqual(page.opened, [[`${PAY}?client_reference_id=${page.id}`]]);
  });

  const linked = { d: "^https?://([^/]+\\.)?(shop\\.fr)(:\\d+)?/" };
  test(`${tag}: 80 a link to a linked domain gets click ID and time on use only; others never`, () => {
    const visitor = newVisitor();
    const decorated = (id) => `_ck=${id}.${visitor.now / 1000}`;
    for (const [href, expected] of [
      ["https://shop.fr/x", "https://shop.fr/x?CK"],
      ["https://www.shop.fr/x?a=1#b", "https://www.shop.fr/x?CK&a=1#b"],
      [`https://shop.fr/?_ck=${ADOPTED}.1&a=1`, "https://shop.fr/?CK&a=1"],
      [`https://shop.fr/?a=1&_ck=${ADOPTED}.1`, "https://shop.fr/?CK&a=1"],
      ["https://shop.de/x", "https://shop.de/x"],
      ["https://shop.fr.evil.example/", "https://shop.fr.evil.example/"],
      ["https://shop.fr:x@evil.example/", "https://shop.fr:x@evil.example/"],
      ["/x", "/x"],
    ]) {
      const element = link(href);
      const page = visitor.open(SHOP, { elements: [element], addOns: ["linked"], config: linked });
      page.mutate([{ target: element, addedNodes: [] }]);
      assert.equal(element.getAttribute("href"), href, "not before it is used");
      page.fire("pointerdown", onUse(element));
      page.fire("click", onUse(element));
      assert.equal(element.getAttribute("href"), expected.replace("CK", decorated(page.id)));
      page.globals.event = { eventPhase: 2 };
      assert.equal(page.globals.clickstamp("url", href), expected.replace("CK", decorated(page.id)));
    }
  });

  test(`${tag}: 81 an incoming click ID wins over the stored one, which the visit names, and leaves the address`, () => {
    const visitor = newVisitor();
    const before = visitor.open(SHOP).id;
    const at = visitor.now / 1000;
    const url = `${SHOP}x?a=1&_ck=${ADOPTED}.${at - 119}&utm_source=fr#top`;
    const page = visitor.open(url, { referrer: "https://www.shop.fr/", addOns: ["linked"], config: linked });
    assert.equal(page.id, ADOPTED);
    assert.deepEqual(page.posts.map(({ i, p, f }) => [i, p, f]), [[ADOPTED, before, 4]]);
    assert.deepEqual(page.replaced, [{ kept: true }, `${SHOP}x?a=1&utm_source=fr#top`]);
    assert.equal(visitor.cookies.get("_ck"), ADOPTED);
    page.fire("navigation currententrychange");
    assert.equal(page.posts.length, 1);
    page.route(`${SHOP}?gclid=later`);
    assert.equal(page.posts[1].f, undefined);
  });

  test(`${tag}: 81 nobody else can push a click ID into the page`, () => {
    const at = (visitor) => visitor.now / 1000;
    for (const [name, referrer, parameter] of [
      ["a stranger's link", "https://evil.example/", (visitor) => `${ADOPTED}.${at(visitor)}`],
      ["no referrer", "", (visitor) => `${ADOPTED}.${at(visitor)}`],
      ["two minutes old", "https://shop.fr/", (visitor) => `${ADOPTED}.${at(visitor) - 121}`],
      ["no click ID", "https://shop.fr/", (visitor) => `ck_UPPER${"x".repeat(30)}.${at(visitor)}`],
      ["no time", "https://shop.fr/", () => ADOPTED],
    ]) {
      const visitor = newVisitor();
      const page = visitor.open(`${SHOP}?_ck=${parameter(visitor)}`, { referrer, addOns: ["linked"], config: linked });
      assert.match(page.id, CLICK_ID);
      assert.notEqual(page.id, ADOPTED, name);
      if (!referrer.includes("shop.fr")) assert.equal(page.replaced, undefined, name);
    }
  });

  test(`${tag}: auto mode and linked domains together`, () => {
    const [pay, other] = [link(PAY), link("https://shop.fr/")];
    const page = newVisitor().open(SHOP, { elements: [pay, other], addOns: ["auto", "linked"], config: { ...linked, u: 1 } });
    page.fire("click", onUse(pay, other));
    assert.equal(pay.getAttribute("href"), `${PAY}?client_reference_id=${page.id}`);
    assert.match(other.getAttribute("href"), /^https:\/\/shop\.fr\/\?_ck=ck_/);
  });

  test(`${tag}: AnyTrack's click ID is noted once, as soon as it answers, and a new one at a click`, () => {
    let answer;
    const page = newVisitor().open(SHOP, { addOns: ["anytrack"], change: (globals) => (globals.AnyTrack = (what) => what === "atclid" && answer) });
    const notes = () => page.posts.map(({ a }) => a).filter(Boolean);
    page.tick();
    assert.deepEqual(notes(), []);
    answer = "a1B2".repeat(8);
    page.tick();
    page.tick();
    assert.deepEqual(notes(), [answer]);
    const first = answer;
    answer = "c3D4".repeat(8);
    page.fire("click", onUse());
    page.fire("click", onUse());
    assert.deepEqual(notes(), [first, answer]);
    assert.equal(page.posts.at(-1).i, page.id);
  });

  test(`${tag}: what AnyTrack put into a payment link is noted at the click, and only while AnyTrack is there`, () => {
    const foreign = "q1W2".repeat(8);
    const replaced = Object.assign(link(""), { href: `${PAY}?client_reference_id=${foreign}&a=1` });
    const mine = Object.assign(link(""), { href: `${PAY}?client_reference_id=${ADOPTED}` });
    for (const [AnyTrack, expected] of [[() => {}, [foreign]], [undefined, []]]) {
      const page = newVisitor().open(SHOP, { addOns: ["anytrack"], change: (globals) => (globals.AnyTrack = AnyTrack) });
      page.fire("click", onUse(mine, replaced));
      assert.deepEqual(page.posts.map(({ a }) => a).filter(Boolean), expected);
    }
  });

  test(`${tag}: placeholders are left to AnyTrack until it has answered, or ten seconds have passed`, () => {
    for (const answers of [true, false]) {
      const element = link(TOKEN);
      let answer;
      const page = newVisitor().open(SHOP, {
        addOns: ["anytrack"], elements: [element], config: { y: 1 }, change: (globals) => answers && (globals.AnyTrack = () => answer),
      });
      for (let second = 0; second < 9; second++) page.tick();
      assert.equal(element.getAttribute("href"), TOKEN);
      answer = "a1B2".repeat(8);
      page.tick();
      page.tick();
      assert.equal(element.getAttribute("href"), page.id);
      assert.deepEqual(page.timers, []);
    }
  });

  test(`${tag}: AnyTrack that throws is not heard of`, () => {
    const page = newVisitor().open(SHOP, { addOns: ["anytrack"], change: (globals) => (globals.AnyTrack = () => { throw new Error("theirs"); }) });
    assert.doesNotThrow(() => { page.tick(); page.fire("click", onUse()); });
    assert.deepEqual(page.said, []);
  });

  const consent = (how, ad_storage, more) => ["consent", how, { ad_storage, ...more }];
  test(`${tag}: 78 Google's consent mode`, () => {
    const denied = consent("default", "denied");
    for (const [name, early, late, expected] of [
      ["nothing said", [], [], false],
      ["default denied", [denied], [], false],
      ["default granted", [consent("default", "granted")], [], true],
      ["granted, but denied for a region", [consent("default", "granted"), consent("default", "denied", { region: ["ES"] })], [], false],
      ["granted for a region only", [consent("default", "granted", { region: ["US"] })], [], false],
      ["update before the tag", [denied, { event: "x" }, consent("update", "granted")], [], true],
      ["update after the tag", [denied], [consent("update", "granted")], true],
      ["granted, then withdrawn", [denied, consent("update", "granted")], [consent("update", "denied")], false],
      ["update about something else", [denied], [["consent", "update", { analytics_storage: "granted" }], ["js", new Date()], null], false],
    ]) {
      const visitor = newVisitor();
      const dataLayer = [...early];
      const page = visitor.open(SHOP, { addOns: ["consent-google"], config: { m: 1 }, change: (globals) => (globals.dataLayer = dataLayer) });
      for (const entry of late) page.globals.dataLayer.push(entry);
      assert.equal(!!page.id, expected, name);
      assert.equal(visitor.cookies.size > 0, expected, name);
      assert.equal(dataLayer.length, early.length + late.length, "the page's own list is whole");
      assert.deepEqual(page.said, []);
    }
  });

  test(`${tag}: 78 a default that denies deletes nothing: on every page it comes before the visitor's own word`, () => {
    const visitor = newVisitor();
    const open = () => visitor.open(SHOP, { addOns: ["consent-google"], config: { m: 1 }, change: (globals) => (globals.dataLayer = [consent("default", "denied")]) });
    const first = open();
    first.globals.dataLayer.push(consent("update", "granted"));
    const second = open();
    assert.equal(visitor.cookies.get("_ck"), first.id);
    second.globals.dataLayer.push(consent("update", "granted"));
    assert.equal(second.id, first.id);
  });

  test(`${tag}: 78 a consent tool that speaks TCF, early or late`, () => {
    const data = (eventStatus, consents, gdprApplies = true) => ({ eventStatus, gdprApplies, purpose: { consents } });
    for (const [name, told, expected] of [
      ["asked, not answered", data("cmpuishown", { 1: true, 7: true }), false],
      ["both purposes", data("useractioncomplete", { 1: true, 7: true }), true],
      ["known from before", data("tcloaded", { 1: true, 7: true }), true],
      ["only storage", data("useractioncomplete", { 1: true }), false],
      ["only measuring", data("useractioncomplete", { 7: true }), false],
      ["the rules do not apply", data("tcloaded", {}, false), true],
      ["nothing in it", { eventStatus: "tcloaded" }, false],
    ])
      for (const isLate of [false, true]) {
        let listener;
        const api = (command, version, callback) => ((listener = callback), assert.deepEqual([command, version], ["addEventListener", 2]));
        const page = newVisitor().open(SHOP, { addOns: ["consent-tcf"], config: { m: 1 }, change: (globals) => isLate || (globals.__tcfapi = api) });
        if (isLate) {
          page.tick();
          page.globals.__tcfapi = api;
          page.tick();
        }
        listener(told, true);
        assert.equal(!!page.id, expected, name);
        listener(data("useractioncomplete", {}), true);
        assert.equal(page.id, "", "withdrawn");
      }
  });
});
