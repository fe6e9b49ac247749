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
  /** The click ID in use; empty until the landing was read. */
  let id = "";
  /** What the click ID replaces: the placeholder, and click IDs this document used before. */
  let replaced = /(-|%2d){2}click(-|%2d)id(-|%2d){2}/gi;
  /** The document's navigation entry and referrer; they count for the first visit only. @type {any} */
  let entry;
  /** @type {string} */
  let referrer;
  /** Calls that wait for the click ID. @type {any[][]} */
  let queue;

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

  /** A click ID nobody has: the baked one, once; then client-made ones, which start with ck_z. */
  const mint = () => {
    const fresh =
      config.i ||
      crypto.getRandomValues(new Uint8Array(32)).reduce((text, byte) => text + (byte & 31).toString(32), "ck_z");
    config.i = "";
    return fresh;
  };

  /**
   * The parts of a text that match, joined by commas.
   * @param {string} text
   * @param {string | RegExp} separator
   * @param {RegExp} pattern
   */
  const pick = (text, separator, pattern) =>
    text
      .split(separator)
      .filter((part) => pattern.test(part))
      .join();

  /**
   * One number for all ad click IDs and UTM parameters of a URL, empty if there are none. It hashes the
   * whole text: a tail would lose a gclid that stands before long UTMs.
   * @param {string} url
   */
  const sign = (url) => {
    let hash = 0;
    const pairs = pick(
      url,
      /[?&#]/,
      /^(utm_\w+|\w*cl(ic)?k?_?id|[gw]braid|(rdt_|sc)cid|_?epik|li_fat_id|tblci)=./i,
    );
    // With a factor below 256 two changed letters could cancel each other out.
    for (const letter of pairs) hash = Math.imul(hash ^ letter.charCodeAt(0), 65599);
    return pairs && `${hash >>> 0}`;
  };

  /** What this document knows when cookies and storage are blocked. @type {Record<string, string>} */
  const known = {};
  const jar = guard(() => doc.cookie);
  const copy = guard((/** @type {string} */ name) => localStorage[name]);
  const store = guard((/** @type {string} */ name, /** @type {string} */ value) => (localStorage[name] = value));

  /**
   * Finds a value in the cookies, else in localStorage, else in memory; what does not match the pattern is absent.
   * @param {string} name
   * @param {string} pattern
   * @returns {(string | undefined)[]} the pattern's groups, from 1
   */
  const recall = (name, pattern) =>
    RegExp(`; ${name}=${pattern};`).exec(`; ${jar()}; ${name}=${copy(name)}; ${name}=${known[name]};`) || [];

  /**
   * Keeps a value in all three places. A cookie that holds the value already is left alone: the server may have
   * set it, and Safari would cut its life from 400 to 7 days if a script wrote it again.
   */
  const keep = guard((/** @type {string} */ name, /** @type {string} */ value) => {
    known[name] = value;
    store(name, value);
    const pair = name + "=" + value;
    if (!doc.cookie.includes(pair)) doc.cookie = pair + ";path=/;max-age=34560000;samesite=lax" + config.k;
  });

  /**
   * Sends a body and waits for nothing. After a network error it is kept for the next load; a repeated one
   * does not replace a newer one there.
   */
  const send = guard((/** @type {string} */ body, isRepeat = false) => {
    fetch(config.e, { method: "POST", body, keepalive: true, mode: "no-cors", credentials: "include" }).catch(() => {
      if (!isRepeat || !copy("_ck_q")) store("_ck_q", body);
    });
  });

  /**
   * @param {string} text
   * @param {number} length
   */
  const cut = (text, length) => text.slice(0, length) || undefined;

  // Where the click ID is put; onclick is last, because a page's policy may refuse the change.
  const attributes =
    "href,action,formaction,data-href,data-url,data-link,data-at-value,client-reference-id,content,src,value,onclick".split(
      ",",
    );
  /** Attributes that are touched in these elements only. @type {Record<string, string>} */
  const owners = { src: "iframe", value: "input[type=hidden]" };
  // "ck" stands in the placeholder and in every click ID, however they are spelled.
  const selector = `${attributes.map((name) => `${owners[name] || ""}[${name}*=ck i]`)}`;

  /**
   * The value with the click ID in it, all other bytes as they are; the value itself if there is nothing to do.
   * @template T
   * @param {T} value
   * @returns {T | string}
   */
  const fill = (value) =>
    id && replaced.test(/** @type {any} */ (value)) ? `${value}`.replace(replaced, id) : value;

  /** Stamps one element. */
  const stamp = guard((/** @type {any} */ element) => {
    if (element.matches?.(selector))
      for (const name of attributes) {
        const value = element.getAttribute(name);
        const filled = fill(value);
        if (filled != value) {
          element.setAttribute(name, filled);
          // Stripe's elements read the attribute only when they connect; a clone reads it again.
          if (name == "client-reference-id" && element.matches(":defined"))
            element.replaceWith(element.cloneNode(true));
        }
      }
  });

  /** Stamps a node and all below it. */
  const scan = (/** @type {any} */ root = doc) => {
    stamp(root);
    root.querySelectorAll?.(selector).forEach(stamp);
  };

  /** Reads the landing: which click ID, and is it a visit? Called again when the URL changed or the page came back. */
  const land = guard(() => {
    // The entry has the query that a router may have stripped by now.
    const url = entry?.name || location.href;
    const [, previous] = recall("_ck", "(ck_[a-z0-9]{29,37})");
    const [, lastSignature = "", lastActive = 0] = recall("_ck_s", "(\\w*)\\.(\\d+)");
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
      if (id) replaced = RegExp(replaced.source + "|" + id, "gi");
      api.id = id = next;
      scan();
    }
    if (isNew || !isLive)
      send(
        JSON.stringify({
          s: config.s,
          i: id,
          // The server tells the bodies of one click ID apart by it.
          t: Date.now(),
          u: cut(url, 4096),
          p: previous,
          r: cut(referrer, 1024),
          k: cut(pick(`${jar()}`, "; ", /^(_(fb|gcl|ga|tt|uet|sc|rdt|at)|li_fat_id)/), 1500),
          f:
            /** @type {any} */ (navigator).webdriver | (/** @type {any} */ (navigator).globalPrivacyControl << 1) ||
            undefined,
        }),
      );
    entry = referrer = "";
  });

  /** The page's commands. @type {Record<string, Function>} */
  const commands = {
    ready: (/** @type {(clickId: string) => void} */ callback) => callback(id),
    scan,
    url: fill,
  };

  /** @type {any} */
  const api = guard((/** @type {string} */ name, /** @type {any} */ argument) => {
    if (id || name == "url") return commands[name]?.(argument);
    queue.push([name, argument]);
  });

  const begin = guard(() => {
    entry = performance.getEntriesByType("navigation")[0];
    referrer = doc.referrer;
    land();

    // pointerdown comes before the context menu, a drag, a middle click and a touch.
    for (const type of ["pointerdown", "click", "submit"])
      addEventListener(
        type,
        guard((event) => {
          // Nodes with an action are forms; their hidden inputs are not on the path.
          for (const node of /** @type {any[]} */ (event.composedPath())) (node.action ? scan : stamp)(node);
        }),
        true,
      );

    new MutationObserver(
      guard((records) => {
        for (const record of records) {
          stamp(record.target);
          record.addedNodes.forEach(scan);
        }
      }),
    ).observe(doc, { subtree: true, childList: true, attributeFilter: attributes });

    const { open, navigation } = /** @type {any} */ (window);
    window.open = /** @this {any} */ function (url, ...rest) {
      return open.call(this, fill(url), ...rest);
    };

    navigation?.addEventListener(
      "navigate",
      guard((/** @type {any} */ event) => {
        const { url, sameDocument } = event.destination;
        const filled = fill(url);
        if (filled != url && event.cancelable && !event.formData && !sameDocument) {
          event.preventDefault();
          location[event.navigationType == "push" ? "assign" : "replace"](filled);
        }
      }),
    );
    // Reading the same landing again changes nothing, so these may overlap.
    navigation?.addEventListener("currententrychange", land);
    addEventListener("popstate", land);
    addEventListener("pageshow", land);

    const unsent = copy("_ck_q");
    if (unsent) {
      delete localStorage._ck_q;
      send(unsent, true);
    }

    // Emptied first: without a click ID the calls would queue up again.
    for (const call of queue.splice(0)) api(...call);
    if (id) doc.dispatchEvent(new CustomEvent("clickstamp:ready", { detail: id }));
  });

  guard(() => {
    const stub = /** @type {any} */ (window).clickstamp;
    // Another tag runs; the first wins.
    if (stub?.id != null) return;
    queue = stub?.q || [];
    window.clickstamp = api;
    api.id = id;

    // A copy older than 300 s came from a cache and may have been given to somebody else.
    if (!(Math.abs(Date.now() / 1000 - /** @type {number} */ (config.t)) < 300)) config.i = "";

    /** @type {any} */ (doc).prerendering ? doc.addEventListener("prerenderingchange", begin) : begin();
  })();
})
