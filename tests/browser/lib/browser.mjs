// The installed Chromium, driven over its debugging protocol.
// In: nothing but the browser itself (CHROMIUM names another one). Out: visitors, each with cookies and storage of their own.
// Promise: everything a page said or threw is heard, and nothing of a run stays behind.

import { once } from "node:events";
import puppeteer from "puppeteer-core";

const ARGUMENTS =
  "--disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync";

/** Starts the browser with an empty profile, which goes when it closes. */
export const launchBrowser = () =>
  puppeteer.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    // Root has no sandbox; anybody else keeps it.
    args: [...ARGUMENTS.split(" "), ...(process.getuid?.() === 0 ? ["--no-sandbox"] : [])],
  });

/**
 * A new visitor: a browser context in which all that pages say is gathered in `said`, one text per message.
 * `openPage` gives a tab; tabs that pages open themselves are heard too.
 */
export const openVisitor = async (browser) => {
  const context = await browser.createBrowserContext();
  const said = [];
  const waiting = new Set();
  const note = (text) => {
    said.push(text);
    for (const look of waiting) look();
  };
  const hear = (page) => {
    page.on("console", (message) => note(`${message.type()}: ${message.text()}`));
    page.on("pageerror", (error) => note(`uncaught: ${error?.message ?? error}`));
    page.on("popup", (popup) => popup && hear(popup));
    return page;
  };
  return {
    context,
    said,
    /** Waits until something like this was said. */
    heard: (pattern) =>
      new Promise((resolve) => {
        const look = () => said.some((text) => pattern.test(text)) && (waiting.delete(look), resolve());
        waiting.add(look);
        look();
      }),
    openPage: async () => hear(await context.newPage()),
    close: () => context.close(),
  };
};

/** Waits until the browser has opened one more tab in this visitor's context, and gives its page. */
export const nextTab = async (visitor, action) => {
  const opened = once(visitor.context, "targetcreated");
  await action();
  const [target] = await opened;
  return target.page();
};
