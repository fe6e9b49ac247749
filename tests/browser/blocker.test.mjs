// The tag in a browser with a content blocker: Debian's uBlock Origin, with the lists it brings along.
// In: Firefox, the package webext-ublock-origin-firefox. Out: what of the tag's requests passed, and what of requests like a tracker's did.
// Promise: the internet is not asked; where the package is not installed, the test says so.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { after, before, test } from "node:test";
import { hideDriver, isFirefox, launchBrowser } from "./lib/browser.mjs";
import { assertStamped, goto, openReady } from "./lib/page.mjs";
import { startServer } from "./lib/server.mjs";
import { openWeb } from "./lib/web.mjs";

const BLOCKER = "/usr/share/mozilla/extensions/{ec8030f7-c20a-464f-9b0e-13a3a9e97384}/uBlock0@raymondhill.net";
const skip = (!isFirefox && "the package is for Firefox") || (!existsSync(BLOCKER) && "webext-ublock-origin-firefox is not installed");

let browser, server, web, page;
before(async () => {
  if (skip) return;
  [browser, server] = await Promise.all([launchBrowser(), startServer({ CLICKSTAMP_VISIT_RATE: "0" })]);
  await browser.installExtension(BLOCKER);
  [web, page] = await Promise.all([openWeb(server.url), browser.newPage()]);
  await page.evaluateOnNewDocument(hideDriver);
  // Reading its lists takes a while, which is no part of the test.
  web.page("/plain", "");
  await goto(page, web.shop("/plain"));
  await untilBlocked("/pixel.gif?x=1");
});
after(async () => {
  await browser?.close();
  web?.close();
  await server?.stop();
});

/** Resolves once the page may not ask somebody else's host for this. */
const untilBlocked = (path) =>
  page.waitForFunction((url) => fetch(url, { mode: "no-cors" }).then(() => false, () => true), { timeout: 0 }, web.url("third", path));

test("J86 beside uBlock Origin, which blocks requests like a tracker's: the tag comes, stamps and reports, from the page's site and from another", { timeout: 90_000, skip }, async () => {
  web.page("/", `${web.tag}<a href="${web.pay()}">Buy</a>`);
  for (const address of [web.shop("/?gclid=one"), web.url("other", "/?gclid=two")]) {
    const id = await openReady(page, address);
    for (const tracker of ["/pixel.gif?x=1", "/collect?v=1&tid=1"]) await untilBlocked(tracker);
    await assertStamped(page, "a", "href", web.pay(), id);
    assert.equal((await web.posts.next()).i, id);
    await page.evaluate(() => clickstamp("event", "Seen"));
    assert.equal((await web.posts.next()).e, "Seen");
  }
});
