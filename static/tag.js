// The browser tag: stamps payment links with the visitor's click ID and reports the visit.
// In: the config object; the server appends "(config)" to this text. Out: stamped links, the cookies _ck and _ck_s, one POST per visit.
// Promise: the page never notices. Nothing is thrown, logged or delayed, and a link that carries another reference stays byte for byte.

/**
 * What the server fills in.
 * @typedef {object} TagConfig
 * @property {string} s site key
 * @property {string} e URL of the visit POST
 * @property {string} k cookie attributes, such as ";domain=shop.com;secure"
 * @property {string} o pattern of referrers that are no new source
 * @property {string} [i] fresh click ID; absent in the static variant
 * @property {number} [t] its mint time, in seconds
 */

(/** @param {TagConfig} config */ (config) => {
  const page = window;
  const doc = document;

  /**
   * The one place that swallows errors. Every entry point and every touch of something the page may have
   * broken or forbidden (storage, attributes, callbacks) goes through it.
   * @template {any[]} A
   * @template R
   * @param {(...args: A) => R} work
   * @returns {(...args: A) => R | undefined}
   */
  const guard = (work) => (...args) => {
    try {
      return work(...args);
    } catch {
      // The page must not notice.
    }
  };

  // ---- click ID ----

  /** The click ID in use; empty until the landing was read. */
  let id = "";

  // A copy older than 300 s came from a cache and may have been given to somebody else.
  let baked = Math.abs(Date.now() / 1000 - /** @type {number} */ (config.t)) < 300 ? config.i : "";

  /** A click ID nobody has: the baked one, once; then client-made ones, which start with ck_z. */
  const mint = () => {
    let fresh = baked;
    baked = "";
    if (!fresh) {
      fresh = "ck_z";
      for (const byte of crypto.getRandomValues(new Uint8Array(32))) fresh += (byte & 31).toString(32);
    }
    return fresh;
  };

  /**
   * One short text for all ad click IDs and UTM parameters of a URL, empty if there are none. It hashes the
   * whole text: a tail would lose a gclid that stands before long UTMs.
   * @param {string} url
   */
  const sign = (url) => {
    const pairs = url
      .split(/[?&#]/)
      .filter((pair) =>
        /^(utm_\w+|\w*cl(ic)?k?_?id|[gw]braid|(rdt_|sc)cid|_?epik|li_fat_id|tblci)=./i.test(pair),
      )
      .join("&");
    let hash = 0;
    // The step of FNV-1a; a small multiplier would let two changed letters cancel out.
    for (const letter of pairs) hash = Math.imul(hash ^ letter.charCodeAt(0), 16777619);
    return pairs && (hash >>> 0).toString(36);
  };

  // ---- cookies and storage ----

  /** What this document knows when cookies and storage are blocked. @type {Record<string, string>} */
  const known = {};
  const jar = guard(() => doc.cookie);
  const copy = guard((/** @type {string} */ name) => localStorage.getItem(name));

  /**
   * A value from the cookie, else from its copy in localStorage, else from memory; what does not match is absent.
   * @param {string} name
   * @param {string} pattern
   */
  const recall = (name, pattern) =>
    (RegExp(`(?:^|; )${name}=(${pattern})(?:;|$)`).exec(
      `${jar()}; ${name}=${copy(name)}; ${name}=${known[name]}`,
    ) || [])[1];

  /**
   * Keeps a value in all three places. A cookie that holds the value already is left alone: the server may have
   * set it, and Safari would cut its life from 400 to 7 days if a script wrote it again.
   * @param {string} name
   * @param {string} value
   */
  const keep = (name, value) => {
    known[name] = value;
    guard(() => {
      if (!doc.cookie.includes(name + "=" + value))
        doc.cookie = name + "=" + value + ";path=/;max-age=34560000;samesite=lax" + config.k;
    })();
    store(name, value);
  };

  const store = guard((/** @type {string} */ name, /** @type {string} */ value) =>
    localStorage.setItem(name, value),
  );

  // ---- POST ----

  /** The newest body's time. Times only grow, because the server tells bodies of one click ID apart by them. */
  let sentAt = 0;

  /**
   * Sends a body and waits for nothing. After a network error it is kept for the next load; a repeated one
   * does not replace a newer one there.
   * @param {string} body
   * @param {boolean} [isRepeat]
   */
  const send = async (body, isRepeat) => {
    try {
      await fetch(config.e, { method: "POST", body, keepalive: true, mode: "no-cors", credentials: "include" });
    } catch {
      if (!isRepeat || !copy("_ck_q")) store("_ck_q", body);
    }
  };

  /** @param {{ u: string, [key: string]: unknown }} facts */
  const post = guard((facts) => {
    sentAt = Math.max(Date.now(), sentAt + 1);
    facts.u = facts.u.slice(0, 4096);
    send(JSON.stringify({ s: config.s, i: id, t: sentAt, ...facts }));
  });

  // ---- links ----

  /** What the click ID replaces: the placeholder, and click IDs this page used before. */
  let replaced = "(-|%2d){2}click(-|%2d)id(-|%2d){2}";

  // Where it is replaced: element and attribute. onclick is last, because a page's policy may refuse the change.
  const places =
    "a href,area href,form action,* formaction,input[type=hidden] value,iframe src,meta[http-equiv=refresh i] content," +
    "* data-href,* data-url,* data-link,* data-at-value,* client-reference-id,* onclick";
  const attributes = /** @type {string[]} */ (places.match(/[a-z-]+(?=,|$)/g));
  // "ck" stands in the placeholder and in every click ID, however they are spelled.
  const selector = places.replace(/ ([a-z-]+)(?=,|$)/g, "[$1*=ck i]");

  /**
   * The value with the click ID in it, all other bytes as they are; the value itself if there is nothing to do.
   * @template T
   * @param {T} value
   * @returns {T | string}
   */
  const fill = (value) => {
    const pattern = RegExp(replaced, "gi");
    return id && pattern.test(`${value}`) ? `${value}`.replace(pattern, id) : value;
  };

  /** Stamps one element. */
  const stamp = guard((/** @type {any} */ element) => {
    if (element.matches?.(selector))
      for (const name of attributes) {
        const value = element.getAttribute(name);
        const filled = fill(value);
        if (filled != value) {
          element.setAttribute(name, filled);
          // Stripe's elements read the attribute only when they connect; a clone reads it again.
          if (name == "client-reference-id" && customElements.get(element.localName))
            element.replaceWith(element.cloneNode(true));
        }
      }
  });

  /** Stamps a node and all below it. */
  const scan = (/** @type {any} */ root = doc) => {
    stamp(root);
    root.querySelectorAll?.(selector).forEach(stamp);
  };

  // ---- visit ----

  /**
   * Reads the landing: which click ID, and is it a visit? Also called when the URL changed or the page came back.
   * @param {boolean} [isFirst] the first time in this document; only then referrer and navigation entry count
   */
  const land = guard((isFirst) => {
    // The entry has the query that a router may have stripped by now.
    const entry = /** @type {PerformanceNavigationTiming | undefined} */ (
      isFirst ? performance.getEntriesByType("navigation")[0] : undefined
    );
    const url = entry ? entry.name : location.href;
    const referrer = isFirst ? doc.referrer : "";
    const previous = recall("_ck", "ck_[a-z0-9]{29,37}");
    const [lastSignature, lastActive] = (recall("_ck_s", "\\w*\\.\\d+") || ".").split(".");
    const now = (Date.now() / 1000) >>> 0;
    const isLive = now - +lastActive < 1800;
    const signature = sign(url) || lastSignature;
    const isNew =
      !previous ||
      signature != lastSignature ||
      (!isLive &&
        referrer &&
        entry?.type == "navigate" &&
        !RegExp(`${config.o}|//${location.host}/`).test(referrer));
    const next = isNew ? mint() : previous;

    keep("_ck", next);
    keep("_ck_s", signature + "." + now);
    if (next != id) {
      if (id) replaced += "|" + id;
      api.id = id = next;
      scan();
    }
    if (isNew || !isLive)
      post({
        u: url,
        p: previous,
        r: referrer.slice(0, 1024) || undefined,
        k:
          `${jar()}`
            .split("; ")
            .filter((cookie) => /^(_(fb|gcl|ga|tt|uet|sc|rdt|at)|li_fat_id)/.test(cookie))
            .join()
            .slice(0, 1500) || undefined,
        f: (navigator.webdriver ? 1 : 0) + (/** @type {any} */ (navigator).globalPrivacyControl ? 2 : 0) || undefined,
      });
  });

  // ---- start ----

  /** The page's commands. @type {Record<string, Function>} */
  const commands = {
    ready: (/** @type {(clickId: string) => void} */ callback) => callback(id),
    scan,
    url: fill,
    event: (/** @type {string} */ e, /** @type {object} */ v) => post({ u: location.href, e, v }),
  };

  /** Calls that wait for the click ID. @type {any[][]} */
  let queue = [];

  const api = Object.assign(
    guard((/** @type {string} */ name, /** @type {any[]} */ ...args) =>
      id || name == "url" ? commands[name]?.(...args) : void queue.push([name, ...args]),
    ),
    { id },
  );

  const begin = guard(() => {
    land(true);
    const unsent = copy("_ck_q");
    if (unsent) {
      localStorage.removeItem("_ck_q");
      send(unsent, true);
    }
    // Emptied first: without a click ID the calls would queue up again.
    for (const [name, ...args] of queue.splice(0)) api(name, ...args);
    if (id) doc.dispatchEvent(new CustomEvent("clickstamp:ready", { detail: id }));
  });

  guard(() => {
    const stub = /** @type {any} */ (page.clickstamp);
    // Another tag runs; the first wins.
    if (stub && "id" in stub) return;
    queue = [...(stub?.q || [])];
    page.clickstamp = /** @type {any} */ (api);

    new MutationObserver(
      guard((records) => {
        for (const record of records) record.attributeName ? stamp(record.target) : record.addedNodes.forEach(scan);
      }),
    ).observe(doc, { subtree: true, childList: true, attributeFilter: attributes });

    // pointerdown comes before the context menu, a drag, a middle click and a touch.
    for (const type of ["pointerdown", "click", "submit"])
      page.addEventListener(
        type,
        guard((event) => {
          // Nodes with an action are forms; their hidden inputs are not on the path.
          for (const node of /** @type {any[]} */ (event.composedPath())) node.action ? scan(node) : stamp(node);
        }),
        true,
      );

    const open = page.open;
    page.open = /** @this {any} */ function (url, ...rest) {
      return open.call(this, fill(url), ...rest);
    };

    const navigation = /** @type {any} */ (page).navigation;
    navigation?.addEventListener(
      "navigate",
      guard((/** @type {any} */ event) => {
        const url = fill(event.destination.url);
        /** @type {"assign" | "replace" | undefined} */
        const go = { push: "assign", replace: "replace" }[event.navigationType];
        if (go && url != event.destination.url && event.cancelable && !event.formData && !event.destination.sameDocument) {
          event.preventDefault();
          location[go](url);
        }
      }),
    );

    const again = () => id && land();
    navigation ? navigation.addEventListener("currententrychange", again) : page.addEventListener("popstate", again);
    page.addEventListener("pageshow", (event) => event.persisted && again());

    /** @type {any} */ (doc).prerendering ? doc.addEventListener("prerenderingchange", begin) : begin();
  })();
})
