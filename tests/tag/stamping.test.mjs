// Where the tag puts the click ID: elements and URLs with the placeholder in all spellings.
// Checks that no other byte changes, and that a link with another reference stays unchanged.

import assert from "node:assert/strict";
import { test } from "node:test";
import { link, StubElement, withBothTags } from "./lib/visitor.mjs";

const SHOP = "https://www.shop.com/";
const PAY = "https://buy.stripe.com/abc?client_reference_id=";
const TOKEN = "--CLICK-ID--";

/** Every way to write the placeholder: each dash plain or encoded, upper, lower and mixed case. */
const SPELLINGS = Array.from({ length: 32 }, (_, bits) => {
  const dash = (at) => (bits & (1 << at) ? "%2D" : "-");
  const token = `${dash(0)}${dash(1)}CLICK${dash(2)}ID${dash(3)}${dash(4)}`;
  return [token, token.toLowerCase(), token.replace("CLICK", "Click")];
}).flat();

withBothTags((tag, newVisitor) => {
  const stamped = (element) => {
    const page = newVisitor().open(SHOP, { elements: [element] });
    return page.id;
  };

  test(`${tag}: every spelling, any number of times`, () => {
    for (const token of SPELLINGS) {
      const element = link(`${PAY}${token}&sub=${token}`);
      const id = stamped(element);
      assert.equal(element.getAttribute("href"), `${PAY}${id}&sub=${id}`, token);
    }
  });

  test(`${tag}: near misses and other references stay`, () => {
    for (const value of ["--CLICKID--", "--CLICK_ID--", "CLICK-ID", "my-own-ref", "ck_somebody", "", "ck_" + "b".repeat(40), "ck_" + "b".repeat(30) + "-mine"]) {
      const element = link(PAY + value);
      stamped(element);
      assert.equal(element.getAttribute("href"), PAY + value);
    }
  });

  test(`${tag}: the placeholder as word processors write it, and the click ID that a copy of the page was saved with`, () => {
    for (const value of ["–CLICK-ID–", "-CLICK-ID-", "%2d%2dclick%2did%2d%2d", "ck_" + "b".repeat(30), "ck_z" + "7".repeat(32)]) {
      const element = link(PAY + value + "&b=2");
      const id = stamped(element);
      assert.equal(element.getAttribute("href"), PAY + id + "&b=2", value);
    }
  });

  test(`${tag}: a description of the page is no place`, () => {
    const meta = new StubElement("meta", { name: "description", content: TOKEN });
    stamped(meta);
    assert.equal(meta.getAttribute("content"), TOKEN);
  });

  test(`${tag}: a link that is in no document is stamped when a script clicks it`, () => {
    const page = newVisitor().open(SHOP);
    const element = link(PAY + TOKEN);
    page.globals.HTMLElement.prototype.click.call(element);
    assert.equal(element.getAttribute("href"), PAY + page.id);
    assert.equal(page.clicked, element);
  });

  test(`${tag}: a script that always puts its own value back wins, and the value is filled on use`, () => {
    const page = newVisitor().open(SHOP);
    const element = link(PAY);
    let rounds = 0;
    element.setAttribute("href", PAY + TOKEN);
    for (; rounds < 1e5 && page.mutate([{ target: element, addedNodes: [] }]) !== 0; rounds++) {
      if (element.getAttribute("href") === PAY + TOKEN) break;
      element.setAttribute("href", PAY + TOKEN);
    }
    assert.ok(rounds < 3000, `${rounds}`);
    page.fire("click", { composedPath: () => [element] });
    assert.equal(element.getAttribute("href"), PAY + page.id);
    page.tick();
    const later = link(PAY + TOKEN);
    page.mutate([{ target: later, addedNodes: [] }]);
    assert.equal(later.getAttribute("href"), PAY + page.id, "a second later, it stamps again");
  });

  test(`${tag}: all other bytes are untouched`, () => {
    // Different texts around the placeholder: encodings, order, fragments, quotes, broken sequences, other scripts.
    const pieces = ["%zz", "%E2%82", "&amp;", "é", "日本", "#a#b", "??", "&&", "=", "+", "%2B", "\\", "$1", "$&", "ck", "CLICK", "--", "\n", "\"", "'", "<b>", "[", "{}", "@", ":8080", "//"];
    let seed = 7;
    const next = (below) => (seed = (seed * 48271) % 2147483647) % below;
    const text = () => Array.from({ length: next(8) }, () => pieces[next(pieces.length)]).join("");
    for (let round = 0; round < 300; round++) {
      const parts = Array.from({ length: 2 + next(3) }, text);
      const element = link(parts.join(TOKEN));
      const id = stamped(element);
      assert.equal(element.getAttribute("href"), parts.join(id));
    }
  });

  test(`${tag}: every place`, () => {
    for (const [name, attribute, more] of [
      ["a", "href"], ["area", "href"], ["form", "action"], ["button", "formaction"], ["input", "value", { type: "hidden" }],
      ["iframe", "src"], ["meta", "content", { "http-equiv": "refresh" }], ["div", "data-href"], ["div", "data-url"],
      ["div", "data-link"], ["div", "data-at-value"], ["div", "onclick"], ["stripe-buy-button", "client-reference-id"],
      ["stripe-pricing-table", "client-reference-id"],
    ]) {
      const element = new StubElement(name, { ...more, [attribute]: `x=${TOKEN}` });
      const id = stamped(element);
      assert.equal(element.getAttribute(attribute), `x=${id}`, `${name} ${attribute}`);
    }
  });

  test(`${tag}: what is not a place stays`, () => {
    for (const [name, attribute, more] of [
      ["input", "value", { type: "text" }], ["button", "value"], ["img", "src"], ["script", "src"], ["a", "title"], ["div", "data-other"],
    ]) {
      const element = new StubElement(name, { ...more, [attribute]: TOKEN });
      stamped(element);
      assert.equal(element.getAttribute(attribute), TOKEN, `${name} ${attribute}`);
    }
  });

  test(`${tag}: Stripe's elements are replaced by a clone once they are defined`, () => {
    for (const isDefined of [true, false]) {
      const element = new StubElement("stripe-buy-button", { "client-reference-id": TOKEN });
      element.isDefined = isDefined;
      const id = stamped(element);
      assert.equal(element.getAttribute("client-reference-id"), id);
      assert.equal(element.replacedBy?.getAttribute("client-reference-id"), isDefined ? id : undefined);
    }
    const plain = link(PAY + TOKEN);
    stamped(plain);
    assert.equal(plain.replacedBy, undefined);
  });

  test(`${tag}: later elements and attributes are seen by the observer`, () => {
    const page = newVisitor().open(SHOP);
    assert.equal(page.observed.target, page.globals.document);
    assert.ok(page.observed.options.subtree && page.observed.options.childList);
    const added = new StubElement("div", {}, [link(PAY + TOKEN)]);
    const changed = link(PAY + TOKEN);
    page.mutate([
      { target: new StubElement("body"), addedNodes: [{ nodeType: 3 }, added] },
      { target: changed, attributeName: "href", addedNodes: [] },
    ]);
    assert.equal(added.children[0].getAttribute("href"), PAY + page.id);
    assert.equal(changed.getAttribute("href"), PAY + page.id);
    assert.ok(page.observed.options.attributeFilter.includes("href"));
  });

  test(`${tag}: on use the whole path is stamped, and a form with its hidden fields`, () => {
    for (const type of ["pointerdown", "click", "submit"]) {
      const page = newVisitor().open(SHOP);
      const inShadow = link(PAY + TOKEN);
      const hidden = new StubElement("input", { type: "hidden", value: TOKEN });
      const form = new StubElement("form", { action: PAY + TOKEN }, [hidden]);
      page.fire(type, { composedPath: () => [inShadow, {}, form, page.globals.document, page.globals] });
      assert.equal(inShadow.getAttribute("href"), PAY + page.id);
      assert.equal(form.getAttribute("action"), PAY + page.id);
      assert.equal(hidden.getAttribute("value"), page.id);
    }
  });

  test(`${tag}: window.open gets the stamped URL and all its arguments`, () => {
    const page = newVisitor().open(SHOP);
    const { globals, opened, id } = page;
    globals.open(PAY + TOKEN, "_blank", "noopener");
    globals.open(new URL(PAY + TOKEN));
    globals.open("https://other.example/?x=1");
    globals.open();
    assert.deepEqual(opened, [[PAY + id, "_blank", "noopener"], [PAY + id], ["https://other.example/?x=1"], []]);
  });

  test(`${tag}: navigations by script are sent to the stamped URL, and only those`, () => {
    const page = newVisitor().open(SHOP);
    const navigate = (change) => {
      const event = { cancelable: true, formData: null, navigationType: "push", prevented: 0, preventDefault: () => event.prevented++, ...change };
      event.destination = { url: PAY + TOKEN, sameDocument: false, ...change?.destination };
      page.went.length = 0;
      page.fire("navigation navigate", event);
      return [event.prevented, ...page.went];
    };
    assert.deepEqual(navigate(), [1, ["push", PAY + page.id]]);
    assert.deepEqual(navigate({ navigationType: "replace" }), [1, ["replace", PAY + page.id]]);
    assert.deepEqual(navigate({ formData: {} }), [0]);
    assert.deepEqual(navigate({ destination: { sameDocument: true } }), [0]);
    assert.deepEqual(navigate({ destination: { url: PAY + "own" } }), [0]);
  });

  test(`${tag}: placeholders left to another tag are stamped on use, or when a scan is asked for`, () => {
    const [first, second, late] = [link(TOKEN), link(TOKEN), link(TOKEN)];
    const page = newVisitor().open(SHOP, { elements: [first, second], config: { y: 1 } });
    page.mutate([{ target: late, addedNodes: [late] }]);
    for (const element of [first, second, late]) assert.equal(element.getAttribute("href"), TOKEN);
    page.fire("pointerdown", { composedPath: () => [first] });
    assert.deepEqual([first, second].map((element) => element.getAttribute("href")), [page.id, TOKEN]);
    page.globals.clickstamp("scan");
    assert.equal(second.getAttribute("href"), page.id);
    page.mutate([{ target: late, addedNodes: [late] }]);
    assert.equal(late.getAttribute("href"), page.id);
  });

  test(`${tag}: under navigator.webdriver nothing is stamped before it is used, so that a copy of the page has no ID`, () => {
    const [used, unused, late] = [link(PAY + TOKEN), link(PAY + TOKEN), link(PAY + TOKEN)];
    const change = ({ navigator }) => (navigator.webdriver = true);
    const page = newVisitor().open(SHOP, { elements: [used, unused], change });
    page.mutate([{ target: late, addedNodes: [late] }]);
    page.route(`${SHOP}?gclid=x`);
    for (const element of [used, unused, late]) assert.equal(element.getAttribute("href"), PAY + TOKEN);
    page.fire("pointerdown", { composedPath: () => [used] });
    page.globals.open(PAY + TOKEN);
    assert.deepEqual([used, unused].map((element) => element.getAttribute("href")), [PAY + page.id, PAY + TOKEN]);
    assert.deepEqual(page.opened, [[PAY + page.id]]);
  });

  test(`${tag}: when the click ID changes, what was stamped changes with it`, () => {
    const element = link(PAY + TOKEN);
    const page = newVisitor().open(SHOP, { elements: [element] });
    for (const round of ["a", "b"]) {
      page.route(`${SHOP}?gclid=${round}`);
      assert.equal(element.getAttribute("href"), PAY + page.id);
    }
  });
});
