// The dashboard in a browser: every page in both themes, on a desk and on a phone, with a keyboard, with and without
// JavaScript. In: the demo of the real binary, whose eight weeks show every state. Out: no violation of WCAG 2.2 AA or
// of axe's best practices, nothing in the console, no page that scrolls sideways. Promise: pages are looked at as an
// owner gets them; nothing is switched off, the content security policy included.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { launchBrowser, openVisitor } from "./lib/browser.mjs";
import { startDemo } from "./lib/demo.mjs";
import { goto } from "./lib/page.mjs";
import { startServer } from "./lib/server.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
/** What Chromium itself says about an answer that is an error on purpose. */
const REFUSED = /^error: Failed to load resource: the server responded with a status of 4\d\d/;
const DESK = { width: 1280, height: 900 };
const PHONE = { width: 390, height: 844 };

let demo, browser, paths;
before(async () => {
  [demo, browser] = await Promise.all([startDemo(), launchBrowser()]);
  const one = async (list, query = "") => (await demo.ask(`/${list}?limit=1${query}`)).data[0].id;
  // The demo's pages report no event of an unknown visit, and no other website has a copy of them.
  await reportEvent("https://northlight.example/offer", "Lead");
  await reportEvent("https://copy.example/offer", "Signup");
  paths = {
    overview: "/",
    "overview by visits": "/?chart=visits",
    "overview in test mode": "/?mode=test",
    conversions: "/conversions",
    "conversions, none": "/conversions?search=nobody",
    "journey, matched": `/conversions/${await one("conversions", "&match=matched")}`,
    "journey, unmatched": `/conversions/${await one("conversions", "&match=unmatched")}`,
    "journey, given up": `/conversions/${await one("conversions", "&delivery=given_up")}`,
    "journey, test": `/conversions/${await one("conversions", "&livemode=false")}?mode=test`,
    leaks: "/leaks",
    visits: "/visits",
    deliveries: "/deliveries",
    events: "/events",
    "event, raw": `/events/${await one("stripe-events")}`,
    "page events that don’t count": "/events/pages?deleted=3",
    "setup, what the tag stores was just chosen": "/setup?saved=consent",
    "site settings, with what the tag stores": "/settings/sites/main",
    settings: "/settings",
    "unknown page": "/nothing",
    "unknown conversion": "/conversions/cnv_nothing",
    "wrong method": "/logout",
  };
});
after(async () => {
  await browser?.close();
  await demo?.stop();
});

/** A page event with a click ID that no visit has. */
const reportEvent = async (url, name) => {
  const body = JSON.stringify({ s: "main", i: "ck_z0123456789abcdefghjkmnpqrstvwxy", t: Date.now(), u: url, e: name });
  const { status } = await fetch(`${demo.url}/v`, { method: "POST", headers: { "content-type": "text/plain", origin: new URL(url).origin }, body });
  assert.equal(status, 204);
};

const signIn = async (page, { url, email, password }) => {
  await goto(page, `${url}/login`);
  await page.type("#email", email);
  await page.type("#password", password);
  await Promise.all([page.waitForNavigation(), page.click("form .btn.main")]);
  assert.equal(new URL(page.url()).pathname, "/");
};

/** Axe's findings, one line each. It runs in a world of its own, so that the page's policy may stay as it is. */
const findings = async (page) => {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() =>
    window.axe.run(document, { resultTypes: ["violations"], runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }),
  );
  return violations.flatMap(({ id, nodes }) => nodes.map(({ html, failureSummary }) => `${id}: ${html.slice(0, 200)} ${failureSummary}`));
};

/** The problems of the page in its current state. */
const faults = async (page, name) => {
  const found = await findings(page);
  const tooWide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  if (tooWide > 0) found.push(`scrolls sideways by ${tooWide} px`);
  if (!(await page.$("h1"))) found.push("has no heading");
  return found.map((fault) => `${name}: ${fault}`);
};

/** Opens all that is folded, but the menus: they cover what is below them. */
const unfold = (page) => page.$$eval("details:not(.menu)", (folded) => folded.forEach((details) => (details.open = true)));

const LOOKS = [["light", "desk", DESK], ["dark", "desk", DESK], ["light", "phone", PHONE], ["dark", "phone", PHONE]];
const look = async (page, theme, size) => {
  await page.setViewport(size);
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: theme }]);
};

for (const [theme, screen, size] of LOOKS)
  test(`every page is accessible and silent, ${theme}, on a ${screen}`, { timeout: 180_000 }, async () => {
    const owner = await openVisitor(browser);
    const page = await owner.openPage();
    await look(page, theme, size);
    await goto(page, `${demo.url}/login`);
    const found = await faults(page, "login");
    await signIn(page, demo);
    for (const [name, path] of Object.entries(paths)) {
      await goto(page, demo.url + path);
      await unfold(page);
      found.push(...(await faults(page, name)));
    }
    assert.deepEqual(found, []);
    assert.deepEqual(owner.said.filter((said) => !REFUSED.test(said)), []);
    assert.equal(owner.said.length, 3, "of the three error pages");
    await owner.close();
  });

test("before anybody has an account, and before anything was seen, pages are as good", { timeout: 60_000 }, async () => {
  const server = await startServer();
  const owner = await openVisitor(browser);
  try {
    const page = await owner.openPage();
    const found = [];
    const [setup] = await server.heard(/http:\S+\/setup\/account\?token=\w+/);
    await goto(page, `${server.url}/login`);
    found.push(...(await faults(page, "login without an account")));
    await goto(page, `${server.url}/setup/account?token=guessed`);
    found.push(...(await faults(page, "wrong token")));
    await goto(page, setup);
    found.push(...(await faults(page, "first account")));
    await page.type("#email", "ada@shop.example");
    await page.type("#password", "correct horse battery");
    await Promise.all([page.waitForNavigation(), page.click(".btn.main")]);
    assert.equal(new URL(page.url()).pathname, "/setup");
    for (const path of ["/setup", "/", "/conversions", "/leaks", "/visits", "/deliveries", "/events", "/events/pages", "/settings"]) {
      await goto(page, server.url + path);
      found.push(...(await faults(page, `${path} without a visit`)));
    }
    // What the tag stores is chosen once, on this page; later it is in the site's settings.
    await goto(page, `${server.url}/setup`);
    await unfold(page);
    for (const [theme, screen, size] of LOOKS) {
      await look(page, theme, size);
      assert.equal((await page.$$('input[name="consent"]')).length, 5);
      found.push(...(await faults(page, `what the tag stores, ${theme}, on a ${screen}`)));
    }
    await look(page, "light", DESK);
    // A refused value comes back with its reason beside the field, and not with the value.
    await goto(page, server.url + "/settings/sources/main");
    await page.type("#secret", "sk_live_hunter2");
    await Promise.all([page.waitForNavigation(), page.click('form[action$="/secrets"] button:not([type=button])')]);
    assert.match(await page.$eval("#secret-error", (error) => error.textContent), /That was an API key/);
    assert.ok(!(await page.content()).includes("hunter2"));
    found.push(...(await faults(page, "a refused secret")));
    assert.deepEqual(found, []);
    assert.deepEqual(owner.said.filter((said) => !REFUSED.test(said)), []);
  } finally {
    await owner.close();
    await server.stop();
  }
});

test("a keyboard reaches the content first, then every tab, and always shows where it is", { timeout: 60_000 }, async () => {
  const owner = await openVisitor(browser);
  const page = await owner.openPage();
  await signIn(page, demo);
  const focused = () =>
    page.evaluate(() => {
      const { activeElement: element } = document;
      const { outlineStyle, outlineWidth } = getComputedStyle(element);
      const { width, height } = element.getBoundingClientRect();
      return { text: element.textContent.trim().replace(/\s+/g, " "), visible: outlineStyle !== "none" && parseFloat(outlineWidth) > 0 && width * height > 4 };
    });
  await page.keyboard.press("Tab");
  assert.deepEqual(await focused(), { text: "Skip to the content", visible: true });
  const seen = [];
  while (!seen.includes("Settings")) {
    await page.keyboard.press("Tab");
    const { text, visible } = await focused();
    assert.ok(visible, `focus on “${text}” can be seen`);
    seen.push(text);
    assert.ok(seen.length < 20, `Settings comes after ${seen}`);
  }
  const tabs = seen.map((text) => text.replace(/ ?\d.*/, "")).slice(-9);
  assert.deepEqual(tabs, ["Overview", "Conversions", "Leaks", "Visits", "Deliveries", "Stripe events", "Links", "Setup", "Settings"]);
  // The skip link leads behind all of them.
  await goto(page, `${demo.url}/`);
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.keyboard.press("Tab");
  assert.ok(await page.evaluate(() => document.querySelector("main").contains(document.activeElement)));
  await owner.close();
});

for (const where of ["with the clipboard", "where the browser keeps it to itself"])
  test(`every text to copy has a button that copies it, ${where}`, { timeout: 60_000 }, async () => {
    const owner = await openVisitor(browser);
    await owner.context.overridePermissions(demo.url, ["clipboard-read", "clipboard-write"]);
    const page = await owner.openPage();
    await signIn(page, demo);
    if (where !== "with the clipboard")
      await page.evaluateOnNewDocument(() => (Clipboard.prototype.writeText = () => Promise.reject(new Error("not here"))));
    await goto(page, `${demo.url}/settings`);
    const texts = await page.$$eval(".copy pre", (all) => all.map((text) => text.textContent));
    const buttons = await page.$$(".copy button");
    assert.ok(texts.length >= 3);
    assert.equal(buttons.length, texts.length);
    for (const [at, button] of buttons.entries()) {
      await button.click();
      await page.waitForFunction((button) => button.textContent.startsWith("Copied: "), {}, button);
      assert.equal(await page.evaluate(() => navigator.clipboard.readText()), texts[at]);
    }
    assert.deepEqual(owner.said, []);
    await owner.close();
  });

test("without JavaScript an owner signs in, filters, opens a journey, changes the mode and signs out", { timeout: 60_000 }, async () => {
  const owner = await openVisitor(browser);
  const page = await owner.openPage();
  await page.setJavaScriptEnabled(false);
  const follow = (selector) => Promise.all([page.waitForNavigation(), page.click(selector)]);
  const heading = () => page.$eval("h1", (title) => title.textContent);
  await signIn(page, demo);
  await follow('nav a[href="/conversions"]');
  await page.type("#q", "nobody");
  await follow("form:has(#q) .btn");
  assert.match(await page.$eval(".empty", (empty) => empty.textContent), /No conversion/);
  await goto(page, `${demo.url}/conversions`);
  await follow("main td a, main th a");
  assert.match(await heading(), /[$€]\d/);
  await follow('a[href*="mode=test"]');
  assert.match(await page.$eval(".notice.testing", (notice) => notice.textContent), /Test mode/);
  await page.click(".menu:has(form[action$='/logout']) > summary");
  await follow("form[action$='/logout'] button");
  assert.equal(new URL(page.url()).pathname, "/login");
  assert.deepEqual(owner.said, []);
  await owner.close();
});
