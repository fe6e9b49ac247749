// The questions every browser test asks a page.
// In: a page with the tag, or without. Out: its click ID, its cookies, its links, what it has posted.
// Promise: each waits for what it asks for, and none waits by the clock.

import assert from "node:assert/strict";

export const CLICK_ID = /^ck_[a-z0-9]{29,37}$/;
export const TOKEN = "--CLICK-ID--";

export const goto = (page, url, options) => page.goto(url, { waitUntil: "domcontentloaded", ...options });
export const ready = async (page) => (await page.waitForFunction(() => window.clickstamp?.id)).jsonValue();
export const openReady = async (page, url, options) => {
  await goto(page, url, options);
  return ready(page);
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
    localStorage._ck_s = aged;
    document.cookie = `_ck_s=${aged};path=/;max-age=99999;domain=shop.localhost`;
  }, minutes * 60);
export const referenceOf = (url) => new URL(url, "http://any").searchParams.get("client_reference_id");
/** The click ID is in the link, as it would be sent. */
export const assertStamped = async (page, selector, name, before, id) =>
  assert.equal(await attribute(page, selector, name), before.replaceAll(TOKEN, id), `${selector} ${name}`);
