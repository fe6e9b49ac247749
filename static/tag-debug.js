// The debug add-on: tells on the console and on a small overlay which links were stamped, and why others were not.
// In: the tag and its config; served only when the page's address has ck_debug, or the script's has debug=1. Out: words for the person who installs it.
// Promise: it looks and tells, and changes nothing but its own overlay. It is for one pair of eyes, so no byte is saved here.

((/** @type {(config: any) => void} */ core) => (/** @type {any} */ config) => {
  core(config);

  const page = /** @type {any} */ (window);
  const TOKEN = /(-|%2d){2}click(-|%2d)id(-|%2d){2}/i;
  const PAYMENT = RegExp(config.h || "^https?://(buy|book|donate)\\.stripe\\.com(:\\d+)?/");
  const URLS = ["href", "action", "formaction", "data-href", "data-url", "data-link", "src"];

  /** Why nothing is stamped at all; empty if the tag has a click ID. */
  const silence = () => {
    if (page.clickstamp?.id) return "";
    if (config.m) return "the visitor has not agreed yet, and this site asks first";
    if (/** @type {any} */ (document).prerendering) return "the page is prerendered, and not shown yet";
    return "the tag has no click ID: another tag runs on this page, or the browser refused";
  };

  /** Judges one attribute: a word for the list and the reason, or nothing if it does not concern us. */
  const judge = (/** @type {Element} */ element, /** @type {string} */ name, /** @type {string} */ value) => {
    const { id } = page.clickstamp || {};
    if (id && value.includes(id)) return ["stamped", "carries the click ID"];
    if (TOKEN.test(value)) {
      const why =
        silence() || (config.y ? "left to AnyTrack's tag for now; a click stamps it" : "the tag does not touch this place; use a link, or clickstamp(\"url\", …)");
      return ["placeholder", why];
    }
    if (name == "client-reference-id") return ["own", "has a reference of its own, which stays"];
    if (!URLS.includes(name)) return;
    let url;
    try {
      url = new URL(value, document.baseURI);
    } catch {
      return;
    }
    if (!PAYMENT.test(url.href)) return;
    const own = url.searchParams.get("client_reference_id");
    if (own) return ["own", "has a reference of its own, which stays"];
    return ["bare", silence() || (config.u ? "not seen yet" : "a payment link without ?client_reference_id=--CLICK-ID--, and the site does not stamp such links")];
  };

  const look = () => {
    const found = [];
    for (const element of document.querySelectorAll("*")) {
      if (overlay.contains(element)) continue;
      for (const { name, value } of element.attributes) {
        const [state, why] = judge(element, name, value) || [];
        if (state) found.push({ state, why, element: `<${element.localName} ${name}>`, value });
      }
    }
    return found;
  };

  const overlay = document.createElement("div");
  overlay.id = "clickstamp-debug";
  Object.assign(overlay.style, {
    position: "fixed", right: "8px", bottom: "8px", zIndex: "2147483647", maxWidth: "min(30rem, 90vw)", maxHeight: "50vh", overflow: "auto",
    padding: "8px 12px", font: "12px/1.5 monospace", color: "#fff", background: "#222", borderRadius: "6px", whiteSpace: "pre-wrap",
  });

  let shown = "";
  const show = () => {
    const found = look();
    const head = page.clickstamp?.id ? `Clickstamp: ${page.clickstamp.id}` : `Clickstamp: nothing is stamped, because ${silence()}`;
    const count = (/** @type {string} */ state) => found.filter((entry) => entry.state == state).length;
    const sum = `${count("stamped")} stamped, ${count("placeholder")} with the placeholder, ${count("own")} with another reference, ${count("bare")} without`;
    const lines = found.filter(({ state }) => state != "stamped").map(({ element, value, why }) => `${element} ${value.slice(0, 80)}\n  ${why}`);
    const text = [head, sum, ...lines].join("\n");
    if (text == shown) return;
    overlay.textContent = shown = text;
    console.info(text);
    console.table(found);
  };

  const start = () => {
    document.body.append(overlay);
    show();
    document.addEventListener("clickstamp:ready", show);
    let isDue = false;
    new MutationObserver(() => {
      if (isDue) return;
      isDue = true;
      setTimeout(() => {
        isDue = false;
        show();
      }, 300);
    }).observe(document, { subtree: true, childList: true, attributes: true });
  };
  document.body ? start() : document.addEventListener("DOMContentLoaded", start);
})
