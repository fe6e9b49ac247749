// The stage of the browser tests: one visitor in front of a web of his own, and the questions every test asks.
// In: a name and what shall happen. Out: a test that passes only if it happened and the console stayed empty.
// Promise: tests share nothing but the running browser, and whatever hangs is ended with its test.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launchBrowser, openVisitor } from "./browser.mjs";
import { openWeb } from "./web.mjs";

export const CLICK_ID = /^ck_[a-z0-9]{29,37}$/;
export const TOKEN = "--CLICK-ID--";

/** The one browser of a test file, for tests that need a second visitor. */
export let browser;
before(async () => (browser = await launchBrowser()));
after(() => browser?.close());

/** One visitor in front of a web of his own. `console` lists what the browser itself may say; nothing else may be said. */
export const scene = (name, play, { console: expected = [] } = {}) =>
  test(name, { timeout: 30_000 }, async ({ signal }) => {
    // What hangs must not keep the browser or the web open.
    const timeUp = new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    const web = await openWeb();
    const visitor = await openVisitor(browser);
    try {
      const page = await visitor.openPage();
      await Promise.race([timeUp, play({ web, visitor, page })]);
      const unexpected = visitor.said.filter((said) => !expected.some((text) => text.test(said)));
      assert.deepEqual(unexpected, [], "the console stays empty");
    } finally {
      await visitor.close();
      web.close();
    }
  });

export const goto = (page, url, options) => page.goto(url, { waitUntil: "domcontentloaded", ...options });
export const ready = async (page) => (await page.waitForFunction(() => window.clickstamp?.id)).jsonValue();
export const openReady = async (page, url, options) => {
  await goto(page, url, options);
  return ready(page);
};
export const attribute = (page, selector, name) => page.$eval(selector, (element, name) => element.getAttribute(name), name);
export const cookie = (page, name) =>
  page.evaluate((name) => document.cookie.match(`(?:^|; )${name}=([^;]*)`)?.[1], name);
/** Everything posted up to now: an event is sent and waited for, and is not part of the answer. */
export const postsSoFar = async ({ web, page }) => {
  await page.evaluate(() => clickstamp("event", "so far"));
  for (;;) if ((await web.posts.next()).e === "so far") return web.posts.all.filter(({ e }) => !e);
};
/** Puts the last activity this many minutes back. */
export const age = (page, minutes) =>
  page.evaluate((seconds) => {
    const aged = localStorage._ck_s.replace(/\d+$/, (at) => at - seconds);
    localStorage._ck_s = aged;
    document.cookie = `_ck_s=${aged};path=/;max-age=99999;domain=shop.localhost`;
  }, minutes * 60);
export const referenceOf = (url) => new URL(url, "http://any").searchParams.get("client_reference_id");
/** The click ID is in the link, as it would be sent. */
export const assertStamped = async (page, selector, name, before, id) =>
  assert.equal(await attribute(page, selector, name), before.replaceAll(TOKEN, id), `${selector} ${name}`);
