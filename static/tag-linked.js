// Add-on for sites on several domains: hands the click ID over to linked domains, and adopts one that comes from there.
// In: the tag and its config, with the pattern of linked pages as `d`. Out: links that carry _ck=<click ID>.<seconds> once they are used.
// Promise: only links to linked domains are touched, and nobody but a linked domain can push a click ID into the page.

((/** @type {(config: any) => void} */ core) => (/** @type {any} */ config) => {
  /** The URL without the parameter; all other bytes as they are. */
  const strip = (/** @type {string} */ url) =>
    url.replace(/([?&])_ck=[^&#]*(&?)/, (_, before, after) => after && before);

  // Links without placeholder must be seen too; but they are decorated only on use, which the tag hears in the capture phase:
  // the time stays fresh, and copied pages stay clean. Calls by script have no element.
  config.q = "]";
  config.l = (/** @type {string} */ url, /** @type {string} */ id, /** @type {Element | undefined} */ element) =>
    url?.match(config.d) &&
    (!element || event?.eventPhase == 1) &&
    strip(url).replace(/\?|(?=#|$)/, (mark) => "?_ck=" + id + "." + ((Date.now() / 1000) >>> 0) + (mark && "&"));

  const [, id, at] = /_ck=(ck_[a-z\d]{29,37})\.(\d+)/.exec(location.href) || [];
  if (Date.now() / 1000 - /** @type {any} */ (at) < 120 && document.referrer.match(config.d)) {
    config.a = id;
    try {
      history.replaceState(history.state, "", strip(location.href));
    } catch {
      // Then the address stays as it is.
    }
  }

  core(config);
})
