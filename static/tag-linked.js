// Add-on for sites on several domains: passes the click ID to linked domains, and adopts one that comes from there.
// Takes the tag and its config, with the pattern of linked pages as `d`. Adds _ck=<click ID>.<seconds> to links when
// they are used.
// Guarantees that only links to linked domains are changed, and that only a linked domain can pass a click ID to the
// page.

((/** @type {(config: any) => void} */ core) => (/** @type {any} */ config) => {
  /** The link's age is measured when the page loads, because visitors may take a while before they consent. */
  const loaded = Date.now() / 1000;
  const isLinked = RegExp(config.d);
  /** The URL without the parameter; all other bytes as they are. */
  const strip = (/** @type {string} */ url) => url.replace(/[?&]_ck=[^&#]*(?=#|$)|\b_ck=[^&#]*&/, "");

  // Links without a placeholder must be found too, but are changed only on use, in the capture phase of the event: the
  // time is then current, and copied pages stay clean. Calls by script have no element. The tag treats an exception
  // here as "no".
  config.q = "]";
  config.l = (/** @type {string} */ url, /** @type {string} */ id, /** @type {Element | undefined} */ element) =>
    url &&
    (!element || event?.eventPhase == 1) &&
    isLinked.test(url) &&
    strip(url).replace(/\?|(?=#|$)/, (mark) => "?_ck=" + id + "." + ((Date.now() / 1000) >>> 0) + (mark && "&"));

  try {
    if (isLinked.test(document.referrer)) {
      // What the address said, the tag has from the navigation entry, even if a router was quicker than this.
      config.a = (/** @type {string} */ url) => {
        const [, id, at] = /** @type {any} */ (/_ck=(ck_[a-z\d]{29,37}).(\d+)/.exec(url));
        return loaded - at < 120 && id;
      };
      history.replaceState(history.state, "", strip(location.href));
    }
  } catch {
    // Then the address stays as it is.
  }

  core(config);
})
