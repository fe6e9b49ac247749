// The browser tag: stamps payment links with the visitor's click ID and sends the visit.
// Takes the config object; the server appends "(config)" to this text. Stamps links, sets the cookies _ck and _ck_s,
// sends one POST per visit.
// Guarantees that the page is not affected: nothing is thrown, logged or delayed, and a link with another reference
// stays unchanged.
//
// The build makes two scripts of it. In tag-cookieless.min.js the constant STORES is false: nothing is kept in the
// browser, so each document is a visitor of its own, and what earlier versions kept is deleted.
//
// Beside it stand add-ons (tag-*.js), spliced in for the sites that need them. Each is a function that takes this one
// and gives one like it.

/**
 * What the server fills in, and below what add-ons do.
 * @typedef {object} TagConfig
 * @property {string} s site key
 * @property {string} e URL of the visit POST
 * @property {string} k cookie attributes, such as ";domain=shop.com;secure"
 * @property {string} o pattern of referrers that are no new source
 * @property {string} [i] fresh click ID; absent in the static variant, empty once it is spent
 * @property {number} [t] its mint time, in seconds
 * @property {unknown} [m] consent is required and not given
 * @property {unknown} [y] tokens stay until they are used or somebody asks for a scan
 * @property {(url: string) => string | undefined} [a] an add-on's word on a landing: the click ID it brings
 * @property {string} [q] how selectors of places end, when an add-on must see values without token
 * @property {(value: any, id: string, element?: Element) => string | false | undefined} [l] an add-on's word on a value: another one, or none
 */

(/** @param {TagConfig} config */ (config) => {
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

  guard(() => {
    const stub = /** @type {any} */ (window).clickstamp;
    // Another tag runs; the first wins. An element with the ID "clickstamp" has this global name too, but is no
    // function.
    if (stub?.call && stub.id != null) return;

    /** The click ID in use; empty until the landing was read, and after consent was withdrawn. */
    let id = "";
    /**
     * What the click ID replaces: the placeholder, also as word processors and encoders write it, and every other
     * click ID: one that this document used before, or one that a copy of the page was saved with.
     */
    const replaced = /(-|–|%2d){1,2}click(-|–|%2d)id(-|–|%2d){1,2}|\bck_[a-z\d]{29,37}(?![\w.-])/gi;
    /** The document's navigation entry and referrer; they count for the first visit only. @type {any} */
    let entry;
    let referrer = document.referrer;
    /** The ad parameters that this document has counted as a click. */
    let counted = "";
    /** What the cookie _ck_s holds; it may have been refused. */
    let signature = "";
    let active = 0;
    /** How many values were filled within about a second. */
    let changes = 0;
    /** Calls that wait for the click ID. @type {any[][]} */
    const queue = stub?.q || [];

    const doc = document;
    const now = () => (Date.now() / 1000) >>> 0;

    /**
     * The parts of a text that match.
     * @param {string} text
     * @param {string | RegExp} separator
     * @param {RegExp} pattern
     */
    const pick = (text, separator, pattern) => text.split(separator).filter((part) => pattern.test(part));

    /** localStorage, or what this document knows when storage is blocked. @type {Record<string, string>} */
    const box = guard(() => localStorage)() || {};
    /** Keeps a value in a cookie, unless it is there, and in the storage; 0 deletes both. One may refuse, the other has it then. */
    const keep = guard(/** @param {string} name @param {any} value @param {boolean} [isThere] */ (name, value, isThere) => {
      try {
        // First without the domain: a cookie of this host alone would hide the one of all hosts.
        isThere ||
          ((doc.cookie = name + "=;path=/;max-age=0"),
          (doc.cookie = `${name}=${value};path=/;max-age=${value && 34560000};samesite=lax${config.k}`));
      } finally {
        if (value) box[name] = value;
        else delete box[name];
      }
    });

    /** Deletes whatever the browser keeps. */
    const forget = () => ["_ck", "_ck_s", "_ck_q"].map((name) => keep(name, 0));

    /** Takes a body out of the last five that no server has accepted or refused, and puts others in. They have no line break. */
    const unsent = /* @__PURE__ */ guard((/** @type {string} */ body, /** @type {string[]} */ ...others) => {
      box._ck_q = [...pick(box._ck_q || "", "\n", /./).filter((kept) => kept != body), ...others].slice(-5).join("\n");
    });
    /** Sends a body and waits for nothing. */
    const send = guard(/** @param {string} body @param {number} [wait] */ (body, wait) => {
      const again = () => setTimeout(() => id && (STORES ? send(body) : send(body, wait)), STORES ? 3e4 : (wait = (wait || 15e3) * 2));
      // No browser takes a larger one from a page that is left.
      if (STORES && body.length < 6e4) unsent(body, body);
      return fetch(config.e, { body, method: "POST", keepalive: true, credentials: STORES ? "include" : "omit" }).then(
        ({ status }) => {
          if (status > 499 || status == 429) again();
          else if (STORES) unsent(body);
          // Withdrawn while it was under way: the answer may have set the cookie again.
          if (STORES) id || commands.consent();
        },
        // The next page sends what is stored; what is not has this page alone.
        STORES ? () => {} : again,
      );
    });

    /** The landing's URL, with the query that a router may have stripped by now; later the page's own. */
    const here = () => entry?.name || location.href;

    /**
     * @param {string} text
     * @param {number} length
     */
    const cut = (text, length) => text.slice(0, length) || undefined;

    /** Tells the server something. It tells the bodies of one click ID apart by the time. */
    const post = guard((/** @type {object} */ fields) =>
      send(JSON.stringify({ t: Date.now(), s: config.s, i: id, u: cut(here(), 4096), ...fields })),
    );

    // Where the click ID is put; onclick is last, because a page's policy may refuse the change.
    const places =
      "[href,[action,[formaction,[data-href,[data-url,[data-link,[data-at-value,[client-reference-id,[http-equiv][content,iframe[src,[type=hidden][value,[onclick".split(
        ",",
      );
    const attributes = places.map((place) => /** @type {string} */ (place.split("[").pop()));
    // "ck" is in the placeholder and in every click ID, however they are encoded.
    const selector = places.map((place) => place + (config.q || "*=ck i]")).join();

    /** The value with the click ID in it, all other bytes as they are. */
    const rewrite = guard((/** @type {any} */ value, /** @type {Element | undefined} */ element) => {
      value = value && `${value}`.replace(replaced, id);
      return config.l?.(value, id, element) || value;
    });
    /** The same, or the value itself if there is nothing to do. @type {(value: any, element?: Element) => any} */
    const fill = (value, element) => (id && rewrite(value, element)) || value;

    /** Stamps one element. */
    const stamp = guard((/** @type {any} */ element) => {
      if (element.matches?.(selector))
        for (const name of attributes) {
          const value = element.getAttribute(name);
          // An add-on may give Stripe's elements the attribute that they lack.
          const filled = value == null && name != "client-reference-id" ? value : fill(value, element);
          if (filled != value) {
            changes++ || setTimeout(() => (changes = 0), 999);
            element.setAttribute(name, filled);
            // Stripe's elements read the attribute only when they connect. A framework may hold the node: no clone.
            if (name == "client-reference-id" && element.matches(":defined")) element.replaceWith(element);
          }
        }
    });

    /** Stamps a node and all below it. */
    const scan = (/** @type {any} */ root = doc) => {
      stamp(root);
      root.querySelectorAll?.(selector).forEach(stamp);
    };

    /** Runs what waits; what has to wait longer queues up again. */
    const drain = guard(() => {
      queue.splice(0).map((call) => api(...call));
    });

    /** Reads the landing: which click ID, and is it a visit? Called again when the URL changed or the page came back. */
    const land = guard(() => {
      if (config.m || /** @type {any} */ (doc).prerendering) return;

      const cookies = STORES ? `; ${guard(() => doc.cookie)()};` : "";
      // The last one counts: cookies before storage, and of several cookies the newest.
      const kept = STORES ? `; _ck=${box._ck}; _ck_s=${box._ck_s + cookies}` : "";
      const [, previous = id || undefined] = (STORES && /.*; _ck=(ck_[a-z\d]{29,37});/.exec(kept)) || [];
      const [, lastSignature = signature, lastActive = active] =
        (STORES && /.*; _ck_s=([\w-]*)\.(\d+);/.exec(kept)) || [];
      const isLive = now() - /** @type {any} */ (lastActive) < 1800;

      // One number for each ad click ID and UTM parameter, always seven digits long. It hashes their whole text, and
      // with a factor below 256 two changed letters could cancel each other out.
      const pairs = pick(
        here(),
        /[?&#]/,
        /^(utm_\w+|\w*cl(ic)?k?_?id|[gw]braid|(rdt_|sc)cid|_?epik|li_fat_id|tblci|oppref|dicbo|aleid)=./i,
      ).map((pair) => {
        let hash = 0;
        for (const letter of pair) hash = ((hash * 65599) ^ letter.charCodeAt(0)) >>> 0;
        return (hash + 2 ** 32).toString(36);
      });
      // A click has a parameter that neither the last click nor this document has seen. In another order, without
      // some, or reached through the history or a reload, it is the same click.
      const isClick =
        !/^[br]/.test(entry?.type) && pairs.some((pair) => !(lastSignature + counted).includes(pair));
      signature = isClick || !lastSignature ? pairs.join("-") : lastSignature;
      counted += pairs;

      const adopted = guard(/** @type {any} */ (config.a))(here());
      let next = adopted || previous;
      if (
        !adopted &&
        (!next ||
          isClick ||
          (!isLive &&
            referrer &&
            entry?.type == "navigate" &&
            !RegExp(`${config.o}|//${location.host}/`).test(referrer)))
      ) {
        // A click ID nobody has: the baked one, once; then client-made ones, which start with ck_z.
        next = config.i || "ck_z" + crypto.getRandomValues(new Uint32Array(9)).join("").slice(0, 32);
        config.i = "";
      }

      const isFirst = !id;
      if (STORES) {
        // A cookie that holds the value already is left alone: the server may have set it, and Safari would cut its
        // life from 400 to 7 days if a script wrote it again.
        keep("_ck", next, cookies.includes("_ck=" + next));
        keep("_ck_s", signature + "." + (active = now()));
      } else active = now();
      // Replaces the previous click ID everywhere.
      if (next != id) {
        api.id = id = next;
        config.y || scan();
      }

      if (STORES && isFirst && box._ck_q) box._ck_q.split("\n").map((body) => send(body));
      // Back from paying, Stripe's session is worth telling, though the visitor's own still lives.
      if (next != previous || !isLive || /session_id=cs_/.test(entry?.name))
        post({
          p: previous,
          r: cut(referrer, 1024),
          k: STORES ? cut(`${pick(cookies, "; ", /^(_(fb|gcl|ga|tt|uet|sc|rdt|at|epik|pin|twclid|_o)|li_fat_id)/)}`, 1500) : undefined,
          f:
            /** @type {any} */ (navigator).webdriver |
              (/** @type {any} */ (navigator).globalPrivacyControl << 1) |
              /** @type {any} */ (adopted && 4) || undefined,
        });
      entry = referrer = "";

      if (isFirst) {
        drain();
        doc.dispatchEvent(new CustomEvent("clickstamp:ready", { detail: id }));
      }
    });

    /** The page's commands, and "post" for add-ons. @type {Record<string, Function>} */
    const commands = {
      ready: (/** @type {(clickId: string) => void} */ callback) => callback(id),
      scan: (/** @type {any} */ root) => {
        config.y = 0;
        scan(root);
      },
      url: fill,
      post,
      event: (/** @type {string} */ e, /** @type {object} */ v) => post({ e, v }),
      consent: (/** @type {boolean} */ isGranted) => {
        config.m = !isGranted;
        if (isGranted) land();
        else {
          // What was stamped gets the placeholder back.
          id = "--CLICK-ID--";
          scan();
          api.id = id = "";
          forget();
        }
      },
    };

    /** @type {any} */
    const api = guard((/** @type {string} */ name, /** @type {any[]} */ ...args) =>
      id || /url|consent/.test(name) ? commands[name]?.(...args) : queue.push([name, ...args]),
    );

    window.clickstamp = api;
    api.id = id;
    // Programs that copy a page would copy the click ID with it.
    config.y = config.y || /** @type {any} */ (navigator).webdriver;
    // A copy older than 300 s came from a cache and may have been given to somebody else. Squared, either way of a
    // clock counts.
    (now() - /** @type {number} */ (config.t)) ** 2 < 9e4 || (config.i = "");

    guard(() => {
      /**
       * @param {any} target
       * @param {string} types
       * @param {(event: any) => void} work
       */
      const on = (target, types, work) =>
        types.split(" ").map((type) => target?.addEventListener(type, guard(work), true));

      // pointerdown comes before the context menu, a drag, a middle click and a touch.
      on(window, "pointerdown click submit", (event) =>
        // Nodes with an action are forms; their hidden inputs are not on the path.
        event.composedPath().map((/** @type {any} */ node) => (node.action ? scan : stamp)(node)),
      );

      const { navigation } = /** @type {any} */ (window);
      // A link that is in no document sends its click to nobody else.
      for (const [owner, name] of /** @type {any[][]} */ ([[window, "open"], [HTMLElement.prototype, "click"]])) {
        const own = owner[name];
        owner[name] = /** @this {any} */ function (/** @type {any[]} */ ...args) {
          stamp(this);
          return own.apply(this, args.map((value) => fill(value)));
        };
      }

      on(navigation, "navigate", (event) => {
        const { url, sameDocument } = event.destination;
        const filled = fill(url);
        if (filled != url && !event.formData && !sameDocument) {
          // First, because it throws for a reload: a page whose own address has the placeholder in it must stay
          // reloadable.
          navigation.navigate(filled, { history: event.navigationType });
          event.preventDefault();
        }
      });
      on(navigation, "currententrychange", land);
      // In the capture phase the window receives the document's events too. A page that is shown for the first time
      // has landed already, so nothing is new to it; one that comes back may find another ID in the cookie.
      on(window, "popstate pageshow prerenderingchange", land);

      new MutationObserver(
        guard((records) => {
          // A script that puts its own value back, or answers with new nodes, would never let the page go on: it wins,
          // and the value is filled when the element is used.
          config.y ||
            changes > 2e3 ||
            records.map((record) => {
              stamp(record.target);
              record.addedNodes.forEach(scan);
            });
        }),
      ).observe(doc, { subtree: true, childList: true, attributeFilter: attributes });

      entry = performance.getEntriesByType("navigation")[0];
    })();

    STORES || forget();
    // First what was said about consent before the tag came; the rest waits for the click ID.
    drain();
    land();
  })();
})
