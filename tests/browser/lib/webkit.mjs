// WebKitGTK, driven over plain W3C WebDriver, behind the part of puppeteer's interface that the tests use.
// In: WEBKIT=1, WebKitWebDriver on PATH, a display. Out: visitors as the other browsers give them, each a browser of its own: one run shares its storage.
// Promise: what the driver cannot do (network and policy messages, request interception) is not pretended; pages themselves tell what they said and threw.

import { spawn } from "node:child_process";
import { createServer } from "node:net";

const DRIVER = process.env.WEBKIT_DRIVER || "WebKitWebDriver";
const ELEMENT = "element-6066-11e4-a52e-4f735466cecf";
const KEYS = { Control: "\uE009", Enter: "\uE007" };
const BUTTONS = { left: 0, middle: 1, right: 2 };
/** In the page: the element of a selector, through open shadow roots. */
const FIND = `const find = (selector) => selector.split(" >>> ").reduce((root, part) => (root.shadowRoot ?? root).querySelector(part), document);`;

/** What every page runs first: it tells the shop's server what was said on the console and what nobody caught. */
export const EARS = `(() => {
  const tell = (text) => navigator.sendBeacon("/said", text);
  addEventListener("error", ({ message }) => tell("uncaught: " + message));
  addEventListener("unhandledrejection", ({ reason }) => tell("uncaught: " + (reason?.message ?? reason)));
  for (const type of ["log", "info", "warn", "error", "table"]) {
    const native = console[type];
    console[type] = (...words) => (tell(type + ": " + words.join(" ")), native.apply(console, words));
  }
})()`;

const freePort = () =>
  new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });

/** Starts a driver and waits until it listens; it says nothing when it does, so it is asked. */
const startDriver = async () => {
  const port = await freePort();
  const child = spawn(DRIVER, [`--port=${port}`], { stdio: "ignore" });
  let failure;
  child.on("error", (error) => (failure = error));
  child.on("exit", (code) => (failure ??= new Error(`${DRIVER} ended with ${code}`)));
  const call = async (method, path, body) => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`, { method, body: body && JSON.stringify(body) });
    const { value } = await response.json();
    if (value?.error) throw new Error(`${value.error}: ${value.message}`);
    return value;
  };
  for (;;) {
    if (failure) throw failure;
    try {
      await call("GET", "/status");
      return { call, child };
    } catch (error) {
      if (error.cause?.code !== "ECONNREFUSED") throw error;
    }
  }
};

const ignoreTimeout = (error) => {
  if (!error.message.startsWith("timeout")) throw error;
};

class Page {
  #session;
  #handle;
  #frame;
  #address = "about:blank";
  #isClosed = false;
  keyboard = {
    down: (key) => this.#keys([{ type: "keyDown", value: KEYS[key] }]),
    up: (key) => this.#keys([{ type: "keyUp", value: KEYS[key] }]),
    press: (key) => this.#keys([{ type: "keyDown", value: KEYS[key] }, { type: "keyUp", value: KEYS[key] }]),
  };

  constructor(session, handle, frame) {
    this.#session = session;
    this.#handle = handle;
    this.#frame = frame;
  }

  /** Driver commands in this tab, and in its frame if it is one; nothing of another tab comes between them. */
  #do(work) {
    return this.#session.inTab(this.#handle, async (call) => {
      if (!this.#frame) return work(call);
      const element = await call("POST", "/execute/sync", { script: `return document.querySelector("iframe")`, args: [] });
      await call("POST", "/frame", { id: element });
      try {
        return await work(call);
      } finally {
        await call("POST", "/frame", { id: null });
      }
    });
  }

  /** Runs this text, a body that calls `done` with {value} or {error} once. */
  async #run(body) {
    const script = `const answer = arguments[0]; const done = (what) => answer(JSON.stringify({ ...what, href: location.href })); ${FIND} ${body}`;
    // As text: the driver never answers when something in a result is undefined.
    const send = () => this.#do((call) => call("POST", "/execute/async", { script, args: [] }));
    // A script that meets a page on its way out gets lost, and never ran: it is sent once more.
    const { value, error, href } = JSON.parse(await send().catch((error) => (ignoreTimeout(error), send())));
    this.#address = href;
    if (error !== undefined) throw new Error(error);
    return value;
  }

  async #element(selector) {
    const found = await this.#do((call) => call("POST", "/execute/sync", { script: `${FIND} return find(${JSON.stringify(selector)})`, args: [] }));
    if (!found) throw new Error(`no element ${selector}`);
    return { [ELEMENT]: found[ELEMENT] };
  }

  #keys(actions) {
    return this.#do((call) => call("POST", "/actions", { actions: [{ type: "key", id: "keyboard", actions }] }));
  }

  async #point(selector, pointerType, button) {
    const origin = await this.#element(selector);
    const actions = [{ type: "pointerMove", origin, x: 0, y: 0, duration: 0 }, { type: "pointerDown", button }, { type: "pointerUp", button }];
    await this.#do((call) => call("POST", "/actions", { actions: [{ type: "pointer", id: pointerType, parameters: { pointerType }, actions }] }));
  }

  on() {}
  setViewport() {}
  url = () => this.#address;
  isClosed = () => this.#isClosed;

  async goto(url, { referer } = {}) {
    if (referer) throw new Error("WebDriver sets no referrer");
    // Always until it has loaded: scripts sent to a page that is still loading get lost. A page that never loads is gone on with.
    await this.#do((call) => call("POST", "/url", { url }).catch(ignoreTimeout));
    this.#address = await this.#do((call) => call("GET", "/url"));
  }
  async reload() {
    await this.#do((call) => call("POST", "/refresh", {}).catch(ignoreTimeout));
  }
  async close() {
    await this.#session.closeTab(this.#handle);
    this.#isClosed = true;
  }

  evaluate(work, ...args) {
    const call = typeof work === "string" ? `(0, eval)(${JSON.stringify(work)})` : `(${work})(...${JSON.stringify(args)})`;
    return this.#run(`(async () => ${call})().then((value) => done({ value }), (error) => done({ error: String(error) }))`);
  }
  evaluateOnNewDocument(work, ...args) {
    this.#session.initScripts.push(`(${work})(...${JSON.stringify(args)})`);
  }
  $eval(selector, work, ...args) {
    return this.#run(`(async () => (${work})(find(${JSON.stringify(selector)}), ...${JSON.stringify(args)}))().then((value) => done({ value }), (error) => done({ error: String(error) }))`);
  }
  $$eval(selector, work) {
    return this.#run(`(async () => (${work})([...document.querySelectorAll(${JSON.stringify(selector)})]))().then((value) => done({ value }), (error) => done({ error: String(error) }))`);
  }
  async $$(selector) {
    return Array(await this.$$eval(selector, (all) => all.length)).fill(selector);
  }

  /** Looks in the page, every few milliseconds; a page that leaves meanwhile is followed. */
  async waitForFunction(work, _options, ...args) {
    for (;;) {
      try {
        const { value, again } = await this.#run(`const until = Date.now() + 1000; const look = () => { let value;
          try { value = (${work})(...${JSON.stringify(args)}) } catch (error) { return done({ error: String(error) }) }
          if (value) done({ value: { value } }); else if (Date.now() < until) setTimeout(look, 10); else done({ value: { again: true } }) }; look()`);
        if (!again) return { jsonValue: async () => value };
      } catch (error) {
        if (!/^(timeout|javascript error|unexpected|unknown error|no such frame|stale)/.test(error.message)) throw error;
      }
    }
  }
  async waitForSelector(selector) {
    await this.waitForFunction((selector) => Boolean(document.querySelector(selector)), {}, selector);
    return { evaluate: (work) => this.$eval(selector, work), isVisible: () => this.$eval(selector, (element) => element.checkVisibility()) };
  }
  /** Called before what navigates: it marks the document that has to go. */
  async waitForNavigation() {
    await this.evaluate(() => void (window.isLeaving = true));
    await this.waitForFunction(() => !window.isLeaving && document.readyState !== "loading");
  }
  frames = () => [];
  async waitForFrame(url) {
    await this.waitForFunction((url) => {
      try {
        return document.querySelector("iframe")?.contentWindow.location.href === url;
      } catch {
        // A frame that this page may not look into is no longer the empty one it began as.
        return true;
      }
    }, {}, url);
    return new Page(this.#session, this.#handle, true);
  }

  click(selector, { button = "left" } = {}) {
    return this.#point(selector, "mouse", BUTTONS[button]);
  }
  tap(selector) {
    return this.#point(selector, "touch", 0);
  }
  focus(selector) {
    return this.$eval(selector, (element) => element.focus());
  }
}

/** A browser with an empty profile, as one visitor's context. */
const openContext = async (proxy) => {
  const { call, child } = await startDriver();
  const { sessionId } = await call("POST", "/session", {
    capabilities: { alwaysMatch: { ...(proxy && { proxy: { proxyType: "manual", httpProxy: proxy } }), "webkitgtk:browserOptions": { binary: process.env.WEBKIT_BROWSER, args: ["--automation"] } } },
  });
  const path = `/session/${sessionId}`;
  const command = (method, tail, body) => call(method, path + tail, body);
  await command("POST", "/timeouts", { script: 6_000, pageLoad: 4_000, implicit: 0 });
  let [current] = await command("GET", "/window/handles");
  /** An open tab that no page of the tests has. */
  let spare = current;
  let last = Promise.resolve();
  const inOrder = (work) => (last = last.then(work, work));
  const session = {
    initScripts: [],
    inTab: (handle, work) =>
      inOrder(async () => {
        if (handle !== current) await command("POST", "/window", { handle });
        current = handle;
        return work(command);
      }),
    /** The browser ends with its last tab, so another one is opened before that is closed. */
    closeTab: (handle) =>
      session.inTab(handle, async (call) => {
        const handles = await call("GET", "/window/handles");
        if (handles.length === 1) spare = (await call("POST", "/window/new", { type: "tab" })).handle;
        await call("DELETE", "/window");
        current = undefined;
      }),
  };
  return {
    initScripts: session.initScripts,
    newPage: async () => {
      if (spare) {
        const page = new Page(session, spare);
        spare = undefined;
        return page;
      }
      const { handle } = await inOrder(() => command("POST", "/window/new", { type: "tab" }));
      return new Page(session, handle);
    },
    /** Waits until an action has opened one more tab. */
    nextTab: async (action) => {
      const handles = () => inOrder(() => command("GET", "/window/handles"));
      const before = await handles();
      await action();
      for (;;) {
        const added = (await handles()).find((handle) => !before.includes(handle));
        if (added) return new Page(session, added);
      }
    },
    // Of the page that is shown; the driver knows no others.
    cookies: async () => (await inOrder(() => command("GET", "/cookie"))).map(({ expiry, ...rest }) => ({ ...rest, expires: expiry })),
    setCookie: (...cookies) => inOrder(async () => { for (const cookie of cookies) await command("POST", "/cookie", { cookie }); }),
    deleteCookie: (...cookies) => inOrder(async () => { for (const { name } of cookies) await command("DELETE", `/cookie/${name}`); }),
    close: async () => {
      // A browser that hangs goes with its driver.
      await Promise.race([call("DELETE", path), new Promise((resolve) => setTimeout(resolve, 5000).unref())]).catch(() => {});
      child.kill();
    },
  };
};

/** Nothing to start yet: each visitor gets a browser. */
export const launchWebKit = async () => {
  return {
    createBrowserContext: ({ proxyServer } = {}) => openContext(proxyServer),
    close: () => {},
  };
};
