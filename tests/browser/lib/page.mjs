// The questions every browser test asks a page.
// In: a page with the tag, or without. Out: its click ID, its cookies, its links, what it has posted.
// Promise: each waits for what it asks for, and none waits by the clock.

import assert from "node:assert/strict";
import { isFirefox, isWebKit } from "./browser.mjs";

export const CLICK_ID = /^ck_[a-z0-9]{29,37}$/;
export const TOKEN = "--CLICK-ID--";

export const goto = (page, url, options) => page.goto(url, { waitUntil: "domcontentloaded", ...options });
export const ready = async (page) => (await page.waitForFunction(() => window.clickstamp?.id)).jsonValue();
export const openReady = async (page, url, options) => {
  await goto(page, url, options);
  return ready(page);
};
/**
 * Opens a page with the referrer of another site's page. Chromium's driver sets the referrer, because Chromium requests some of
 * these hosts only with https; Firefox follows a link on such a page.
 */
export const arriveFrom = async ({ web, page }, before, url) => {
  if (!isFirefox && !isWebKit) {
    await goto(page, url, { referer: before, referrerPolicy: "unsafeUrl" });
    return before;
  }
  const { host, pathname } = new URL(before);
  const from = web.foreignUrl(host, pathname);
  web.foreignPage(from, `<a href="${url}">Go</a>`, { "referrer-policy": "unsafe-url" });
  await goto(page, from);
  await Promise.all([page.waitForNavigation({ waitUntil: "domcontentloaded" }), page.click("a")]);
  return from;
};
/** Goes back to the page before, which the browser may have kept; nothing that a loading page does can be waited for then. */
export const goBack = async (page, url) => {
  await page.evaluate(() => history.back());
  await page.waitForFunction((url) => location.href === url, {}, url);
};
export const attribute = (page, selector, name) => page.$eval(selector, (element, name) => element.getAttribute(name), name);
export const cookie = (page, name) =>
  page.evaluate((name) => document.cookie.match(`(?:^|; )${name}=([^;]*)`)?.[1], name);
/** Everything posted up to now: a mark is posted behind it and waited for, and is not part of the answer. */
export const postsSoFar = async ({ web, page }) => {
  await page.evaluate((mark) => void fetch(mark, { method: "POST", mode: "no-cors", keepalive: true }), web.url("go.shop", web.markPath));
  for (;;) if ((await web.posts.next()).isMark) return web.posts.all.filter(({ isMark }) => !isMark);
};
/** Puts the last activity this many minutes back. */
export const age = (page, minutes) =>
  page.evaluate((seconds) => {
    const aged = localStorage._ck_s.replace(/\d+$/, (at) => at - seconds);
    const domain = location.hostname.match(/[^.]+\.localhost$/)?.[0];
    localStorage._ck_s = aged;
    document.cookie = `_ck_s=${aged};path=/;max-age=99999${domain ? `;domain=${domain}` : ""}`;
  }, minutes * 60);
export const referenceOf = (url) => new URL(url, "http://any").searchParams.get("client_reference_id");
/** The click ID is in the link, as it would be sent. */
export const assertStamped = async (page, selector, name, before, id) =>
  assert.equal(await attribute(page, selector, name), before.replaceAll(TOKEN, id), `${selector} ${name}`);
