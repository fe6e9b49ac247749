// An installed browser: Chromium, driven over its debugging protocol, Firefox over WebDriver BiDi, or WebKitGTK over
// WebDriver. FIREFOX sets Firefox's path and chooses it, WEBKIT chooses WebKitGTK, CHROMIUM sets another Chromium.
// Provides visitors, each with cookies and storage of their own. Guarantees that everything a page logs or throws is
// recorded, and that no files of a run are left.

import { once } from "node:events";
import puppeteer from "puppeteer-core";
import { EARS, launchWebKit } from "./webkit.mjs";

const ARGUMENTS =
  "--disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync";

/** True when the tests run in Firefox; some rows are about things that only one engine has. */
export const isFirefox = Boolean(process.env.FIREFOX);
export const isWebKit = Boolean(process.env.WEBKIT);
/** True where the driver tells what the browser itself says of requests that failed. */
export const tellsFailures = !isFirefox && !isWebKit;

/** Hosts of other people that pages of the tests come from or live on; all are answered on loopback. */
export const FOREIGN_HOSTS = ["www.google.com", "m.facebook.com", "buy.stripe.com", "checkout.stripe.com", "x.github.io"];

/** Pages see a person's browser, because the tag treats programs differently. Firefox and WebKit have no setting for that. */
export const hideDriver = () => Object.defineProperty(Navigator.prototype, "webdriver", { value: false, configurable: true });

/** Starts the browser with an empty profile, which goes when it closes. `isAutomated`: pages see that a program drives it. */
export const launchBrowser = ({ isAutomated = false } = {}) =>
  isWebKit
    ? launchWebKit()
    : isFirefox
    ? puppeteer.launch({
        browser: "firefox",
        executablePath: process.env.FIREFOX,
        extraPrefsFirefox: {
          // Nothing but the tests' own loopback hosts is asked for anything.
          "network.proxy.type": 0,
          "network.dns.localDomains": FOREIGN_HOSTS.join(),
          // Those hosts speak plain http here, whatever is known of them elsewhere.
          "network.stricttransportsecurity.preloadlist": false,
          "dom.disable_open_during_load": false,
          // Pages go to the back-forward cache as they do for everybody who does not automate.
          "fission.bfcacheInParent": true,
        },
      })
    : puppeteer.launch({
        executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
        // Root has no sandbox; anybody else keeps it.
        args: [
          ...ARGUMENTS.split(" "),
          `--host-resolver-rules=${FOREIGN_HOSTS.map((host) => `MAP ${host} 127.0.0.1`).join()}`,
          ...(isAutomated ? [] : ["--disable-blink-features=AutomationControlled"]),
          ...(process.getuid?.() === 0 ? ["--no-sandbox"] : []),
        ],
      });

/**
 * A new visitor: a browser context in which all that pages say is gathered in `said`, one text per message.
 * `openPage` returns a tab; tabs that pages open are recorded too. `isAutomated` is what the browser was launched with.
 */
export const openVisitor = async (browser, web, { isAutomated = false } = {}) => {
  // The other browsers get rules that resolve these hosts to loopback; WebKit uses the test web as its proxy.
  const context = await browser.createBrowserContext(isWebKit && web ? { proxyServer: new URL(web.shop()).host.replace(/.*:/, "127.0.0.1:") } : {});
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
  // WebKit's driver reports no messages, so a script in its pages reports them.
  context.initScripts?.push(EARS);
  return {
    context,
    said,
    /** Adds a message that a page's script reported. */
    note,
    /** Waits until something like this was said. */
    heard: (pattern) =>
      new Promise((resolve) => {
        const look = () => said.some((text) => pattern.test(text)) && (waiting.delete(look), resolve());
        waiting.add(look);
        look();
      }),
    openPage: async () => {
      const page = hear(await context.newPage());
      if (isFirefox && !isAutomated) await page.evaluateOnNewDocument(hideDriver);
      return page;
    },
    close: () => context.close(),
  };
};

/** Waits until the browser has opened one more tab in this visitor's context, and gives its page. */
export const nextTab = async (visitor, action) => {
  if (isWebKit) return visitor.context.nextTab(action);
  const opened = once(visitor.context, "targetcreated");
  await action();
  const [target] = await opened;
  return target.page();
};
