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

((
  /** @type {TagConfig} */ config,
  /**
   * The one place that swallows errors. Every entry point and every touch of something the page may have
   * broken or forbidden (storage, attributes, callbacks) goes through it. A parameter only because that is short.
   * @type {<A extends any[], R>(work: (...args: A) => R) => (...args: A) => R | undefined}
   */
  guard = (work) => (...args) => {
    try {
      return work(...args);
    } catch {
      // The page must not notice.
    }
  },
) => {
  guard(() => {
    const stub = /** @type {any} */ (window).clickstamp;
    // Another tag runs; the first wins. An element with the ID or name "clickstamp" has this global name too, and a
    // form's fields are its members, but only functions have this one.
    if (stub?.call == guard.call && stub.id != null) return;

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
      guard(() => (value ? (box[name] = value) : delete box[name]))();
      // First without the domain: a cookie of this host alone would hide the one of all hosts.
      isThere ||
        ((doc.cookie = name + "=;path=/;max-age=0"),
        (doc.cookie = `${name}=${value};path=/;max-age=${value && 34560000};samesite=lax${config.k}`));
    });

    /** Deletes whatever the browser keeps. */
    const forget = () => ["", "_s", "_q"].map((end) => keep("_ck" + end, 0));

    /** Takes a body out of the last five that no server has accepted or refused, and puts it in again, or "". It has no line break. */
    const unsent = /* @__PURE__ */ guard((/** @type {string} */ body, /** @type {string} */ again) => {
      box._ck_q = pick((box._ck_q || "").replace(body, "") + "\n" + again, "\n", /./).slice(-5).join("\n");
    });
    /** Sends a body and waits for nothing. */
    const send = guard(/** @param {string} body */ (body, wait = 3e4) => {
      // A proxy whose server is away gives no answer that may be read. Four times, because a page's policy may refuse it.
      const again = () => wait < 3e5 && setTimeout(() => id && send(body, wait * 2), wait);
      // No browser takes a larger one from a page that is left.
      if (STORES && body.length < 6e4) unsent(body, body);
      return fetch(config.e, { body, method: "POST", keepalive: true, credentials: STORES ? "include" : "omit" }).then(
        ({ status }) => {
          if (status > 499 || status == 429) again();
          else if (STORES) unsent(body, "");
          // Withdrawn while it was under way: the answer may have set the cookie again.
          if (STORES) id || commands.consent();
        },
        again,
      );
    });

    /** The landing's URL, with the query that a router may have stripped by now; later the page's own. */
    const here = () => entry?.name || location.href;

    /** Tells the server something. It tells the bodies of one click ID apart by the time. */
    const post = guard((/** @type {object} */ fields) =>
      send(JSON.stringify({ t: Date.now(), s: config.s, i: id, u: here().slice(0, 4096), ...fields })),
    );

    // Where the click ID is put; onclick is last, because a page's policy may refuse the change. Links of SVG may have
    // their address in a namespace, and all namespaces are searched.
    const places =
      "[*|href,[action,[formaction,[data-href,[data-url,[data-link,[data-at-value,[client-reference-id,[http-equiv][content,iframe[src,[type=hidden][value,[onclick";
    const attributes = /** @type {string[]} */ ((places + ",xlink:href").match(/[\w:-]+(?=,|$)/g));
    // "ck" is in the placeholder and in every click ID, however they are encoded.
    const selector = places.split(",").map((place) => place + (config.q || "*=ck i]")).join();

    /** The value with the click ID in it, all other bytes as they are. */
    const fill = /** @type {(value: any, element?: Element) => any} */ ((value, element) =>
      (id &&
        guard(() => {
          const filled = value && `${value}`.replace(replaced, id);
          return config.l?.(filled, id, element) || filled;
        })()) ||
      value);

    /** Stamps one element. */
    const stamp = guard((/** @type {any} */ element) => {
      if (element.matches?.(selector))
        attributes.map((name) => {
          const value = element.getAttribute(name);
          // An add-on may give Stripe's elements the attribute that they lack; it has the longest name.
          const filled = value || name[15] ? fill(value, element) : value;
          if (filled != value) {
            changes++ || setTimeout(() => (changes = 0), 999);
            element.setAttribute(name, filled);
            // Stripe's elements read the attribute only when they connect. A framework may hold the node: no clone.
            if (name[15] && element.matches(":defined")) element.replaceWith(element);
          }
        });
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
      const [, previous = id || undefined, lastSignature = signature, lastActive = active] = STORES
        ? /** @type {any[]} */ (/(?=.*; _ck=(ck_[a-z\d]{29,37});|)(?=.*; _ck_s=([\w-]*)\.(\d+);|)/.exec(kept))
        : [];
      const isLive = now() - /** @type {any} */ (lastActive) < 1800;

      // One number for each ad click ID and UTM parameter, always seven digits long. It hashes their whole text, and
      // with a factor below 256 two changed letters could cancel each other out.
      const pairs = pick(
        here(),
        /[?&#]/,
        /^(utm_\w+|\w*cl(ic)?k?_?id|.braid|(rdt_|sc)cid|_?epik|li_fat_id|tblci|oppref|dicbo|aleid)=./i,
      ).map((pair) =>
        ([...pair].reduce((hash, letter) => ((hash * 65599) ^ letter.charCodeAt(0)) >>> 0, 0) + 2 ** 32).toString(36),
      );
      // A click has a parameter that neither the last click nor this document has seen. In another order, without
      // some, or reached through the history or a reload, it is the same click.
      const isNew = !/^[br]/.test(entry?.type);
      const isClick = isNew && pairs.some((pair) => !(lastSignature + counted).includes(pair));
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
            isNew &&
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

      if (STORES && isFirst) pick(box._ck_q || "", "\n", /./).map((body) => send(body));
      // Back from paying, Stripe's session is worth telling, though the visitor's own still lives.
      if (next != previous || !isLive || /session_id=cs_/.test(entry?.name))
        post({
          p: previous,
          r: referrer.slice(0, 1024) || undefined,
          k: STORES ? `${pick(cookies, "; ", /^(_(fb|gcl|ga|tt|uet|sc|rdt|at|epik|pin|twclid|_o)|li_f)/)}`.slice(0, 1500) || undefined : undefined,
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
      id || /^[cu]/.test(name) ? commands[name](...args) : queue.push([name, ...args]),
    );

    window.clickstamp = api;
    api.id = id;
    // Programs that copy a page would copy the click ID with it.
    /** @type {any} */ (config).y |= /** @type {any} */ (navigator).webdriver;
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

      // A link that is in no document sends its click to nobody else.
      const wrap = (/** @type {any} */ owner, /** @type {string} */ name, own = owner[name]) => {
        owner[name] = /** @this {any} */ function (/** @type {any[]} */ ...args) {
          stamp(this);
          return own.apply(this, args.map(/** @type {any} */ (fill)));
        };
      };
      wrap(window, "open");
      wrap(HTMLElement.prototype, "click");

      on(/** @type {any} */ (window).navigation, "navigate", (event) => {
        const { url, sameDocument } = event.destination;
        const filled = fill(url);
        if (filled != url && !event.formData && !sameDocument) {
          // First, because it throws for a reload: a page whose own address has the placeholder in it must stay
          // reloadable.
          navigation.navigate(filled, { history: event.navigationType });
          event.preventDefault();
        }
      });
      on(/** @type {any} */ (window).navigation, "currententrychange", land);
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
