// The questions every browser test asks a page.
// In: a page with the tag, or without. Out: its click ID, its cookies, its links, what it has posted.
// Promise: each waits for what it asks for, and none waits by the clock.

import assert from "node:assert/strict";
import { isFirefox, isWebKit } from "./browser.mjs";

export const CLICK_ID = /^ck_[a-z0-9]{29,37}$/;
export const TOKEN = "--CLICK-ID--";

/**
 * Opens a page in a tab that is at rest. In a tab that is on its way elsewhere, Firefox's driver takes the new navigation for a part of
 * the old one and waits in vain: wait until the tab has arrived (`arrivedAt`), or take another tab.
 */
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
  await page.click("a");
  await page.waitForFunction((url) => location.href === url && document.readyState !== "loading", {}, url);
  return from;
};
/** Goes back to the page before, which the browser may have kept; nothing that a loading page does can be waited for then. */
export const goBack = async (page, url) => {
  await page.evaluate(() => history.back());
  await page.waitForFunction((url) => location.href === url, {}, url);
};
/** Waits until the tab shows this path; the URL that it shows instead is in the error. */
export const arrivedAt = async (page, path) => {
  try {
    await page.waitForFunction((path) => location.pathname === path && document.readyState !== "loading", {}, path);
  } catch (error) {
    throw new Error(`not at ${path}, but at ${page.url()}`, { cause: error });
  }
};
/**
 * The next arrival at the pretend Stripe. The page leaves while the call that sends it there returns, and the driver may lose the call's
 * answer then, so the arrival alone counts. If there is none, the error of the call is its cause.
 */
export const arrivalOf = (web, sending) => {
  let failure;
  sending.catch((error) => (failure = error));
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error("nothing arrived at the pretend Stripe", { cause: failure })), 60_000);
    web.payments.next().then((arrived) => (clearTimeout(timer), resolve(arrived)));
  });
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
