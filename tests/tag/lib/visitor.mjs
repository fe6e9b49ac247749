// A visitor's browser, small enough to read: cookies, storage and a clock that outlive pages, and pages made of stub
// elements. In: URLs, referrers, elements, what is broken. Out: pages in which the tag has run, with all they sent and
// said. Promise: no network, no timers, no real clock; the same test gives the same answer.

import { readFileSync } from "node:fs";
import vm from "node:vm";

/** The text of a script; the hand-written one gets its constant as in the build. */
const readTag = (name, stores) => ({
  name,
  text: readFileSync(new URL(`../../../static/${name}`, import.meta.url), "utf8").replace(/\bSTORES\b/g, String(stores)),
});
/** The hand-written tag and the shipped one; each test runs with both. */
export const TAGS = ["tag.js", "tag.min.js"].map((name) => readTag(name, true));
/** The same without storage. */
const COOKIELESS = [{ ...readTag("tag.js", false), name: "cookieless tag.js" }, readTag("tag-cookieless.min.js", false)];

const addOnText = (name, tag) =>
  readFileSync(new URL(`../../../static/tag-${name}${tag.name.endsWith(".min.js") ? ".min.js" : ".js"}`, import.meta.url), "utf8").trimEnd();

export const CLICK_ID = /^ck_[a-z0-9]{29,37}$/;

/** An answer that is there at once, so that pages may follow each other without waiting for it. */
const ACCEPTED = { then: (work) => (work({ status: 204 }), ACCEPTED) };

export class StubElement {
  constructor(localName, attributes = {}, children = []) {
    this.localName = localName;
    this.attributes = new Map(Object.entries(attributes));
    this.children = children;
    if (localName === "form") this.action = "https://www.shop.com/";
  }
  getAttribute(name) {
    return this.attributes.get(name) ?? null;
  }
  setAttribute(name, value) {
    this.attributes.set(name, value);
  }
  /** Understands the tag's own selectors: an optional element, an optional type, one attribute that contains a text. */
  matches(selectors) {
    if (selectors === ":defined") return this.isDefined ?? true;
    return selectors.split(",").some((selector) => {
      const [, element, type, other, name, text] =
        /^([a-z]*)(?:\[type=(\w+)\])?(?:\[([\w-]+)\])?\[(?:\*\|)?([\w-]+)(?:\*=(\w+) i)?\]$/.exec(selector);
      return (
        (!element || element === this.localName) &&
        (!other || this.attributes.has(other)) &&
        (!type || type === this.getAttribute("type")) &&
        (text ? (this.getAttribute(name) ?? "").toLowerCase().includes(text) : this.attributes.has(name))
      );
    });
  }
  querySelectorAll(selectors) {
    return this.children.flatMap((child) => [
      ...(child.matches(selectors) ? [child] : []),
      ...child.querySelectorAll(selectors),
    ]);
  }
  replaceWith(other) {
    this.replacedBy = other;
  }
}

export const link = (href) => new StubElement("a", { href });

/** The config as the server bakes it; `mint` seconds apart from the visitor's clock. */
export const bake = (visitor, mint = 0) => ({
  i: `ck_0${String(visitor.minted++).padStart(31, "a")}`,
  t: visitor.now / 1000 - mint,
  s: "main",
  e: "https://go.shop.com/v",
  k: ";domain=shop.com;secure",
  o: "^https?://([^/]+\\.)?(shop\\.com|stripe\\.com|paypal\\.com|ignored\\.example)[:/]",
});

export class Visitor {
  constructor(tag) {
    this.tag = tag;
    this.now = Date.UTC(2026, 8, 21, 12);
    this.cookies = new Map();
    this.cookieWrites = [];
    this.storage = {};
    this.minted = 0;
    this.seed = 1;
  }

  /** 31 bits that look random and are the same in every run. */
  random() {
    return (this.seed = (this.seed * 48271) % 2147483647);
  }

  wait(minutes) {
    this.now += minutes * 60_000;
  }

  /**
   * Opens a page and runs the tag in it.
   * `type` is the navigation type, `change` may alter the page's globals and `before` is the page's own script, `answer` is what fetch gives.
   */
  open(url, { referrer = "", type = "navigate", elements = [], config = {}, addOns = [], stub, change, before, answer } = {}) {
    const visitor = this;
    const page = { posts: [], requests: [], said: [], opened: [], went: [], ready: [], timers: [], listeners: {}, elements };
    const listen = (place) => (name, listener) => (page.listeners[`${place}${name}`] ??= []).push(listener);

    const body = new StubElement("body", {}, elements);
    const document = {
      referrer,
      get cookie() {
        return [...visitor.cookies].map(([name, value]) => `${name}=${value}`).join("; ");
      },
      set cookie(text) {
        visitor.cookieWrites.push(text);
        const [, name, value] = /^([^=]+)=([^;]*)/.exec(text);
        if (text.includes(";max-age=0;")) visitor.cookies.delete(name);
        else visitor.cookies.set(name, value);
      },
      querySelectorAll: (selectors) => body.querySelectorAll(selectors),
      addEventListener: listen("document "),
      dispatchEvent: (event) => page.ready.push(event.detail),
    };
    const globals = {
      document,
      location: {
        href: url,
        host: new URL(url).host,
        toString() {
          return this.href;
        },
      },
      navigator: { webdriver: false },
      performance: { getEntriesByType: () => [{ name: url, type }] },
      crypto: { getRandomValues: (bytes) => bytes.map(() => this.random() >> 8) },
      localStorage: this.storage,
      navigation: { addEventListener: listen("navigation "), navigate: (to, { history }) => page.went.push([history, to]) },
      addEventListener: listen(""),
      open: (...args) => page.opened.push(args),
      fetch: (to, options) => {
        page.requests.push({ to, options });
        page.posts.push(JSON.parse(options.body));
        return answer ? answer() : ACCEPTED;
      },
      URL,
      HTMLElement: class {
        click() {
          page.clicked = this;
        }
      },
      history: { state: { kept: true }, replaceState: (state, _, to) => ((page.replaced = [state, to]), (globals.location.href = to)) },
      setTimeout: (work, wait, ...args) => page.timers.push([wait, () => work(...args)]),
      CustomEvent: class {
        constructor(name, { detail }) {
          Object.assign(this, { name, detail });
        }
      },
      MutationObserver: class {
        constructor(callback) {
          page.mutate = callback;
        }
        observe(target, options) {
          page.observed = { target, options };
        }
      },
      Date: { now: () => visitor.now },
      console: new Proxy({}, { get: (_, level) => (...words) => page.said.push([level, ...words]) }),
    };
    if (stub) globals.clickstamp = stub;
    change?.(globals);
    globals.window = globals;
    page.globals = globals;
    page.config = { ...bake(this), ...config };
    vm.createContext(globals);
    // Composed as the server does it: each add-on wraps the script inside it.
    const script = addOns.reduce((inner, name) => `${addOnText(name, this.tag)}(${inner})`, this.tag.text);
    page.run = () => vm.runInContext(`${script}(${JSON.stringify(page.config)})`, globals);
    if (before) vm.runInContext(before, globals);
    page.run();

    /** Fires what was listened for: "click", "navigation navigate", "prerenderingchange". */
    page.fire = (name, event = {}) => {
      if (name === "prerenderingchange") document.prerendering = false;
      globals.event = event;
      for (const listener of page.listeners[name] ?? []) listener(event);
      globals.event = undefined;
    };
    /** Time passes for what the page has set up. */
    page.tick = () => page.timers.splice(0).forEach(([, work]) => work());
    /** A single-page app changed the URL. */
    page.route = (to) => {
      globals.location.href = to;
      page.fire("navigation currententrychange");
    };
    Object.defineProperty(page, "id", { get: () => globals.clickstamp?.id });
    return page;
  }
}

/** Declares the same tests for both forms of the tag that stores nothing. */
export const withBothCookielessTags = (declare) => {
  for (const tag of COOKIELESS) declare(tag.name, () => new Visitor(tag));
};
/** Declares the same tests for both tags. */
export const withBothTags = (declare) => {
  for (const tag of TAGS) declare(tag.name, () => new Visitor(tag));
};
