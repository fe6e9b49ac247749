// The debug add-on: shows in the console and in a small overlay which links were stamped, and why others were not.
// Takes the tag and its config. It is served only if the page's address has ck_debug or the script's has debug=1.
// Guarantees that it changes nothing but its own overlay. Only the person who installs the tag loads it, so its size
// does not matter.

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

  /** The same as a sentence. */
  const because = () => silence() && `Not stamped, because ${silence()}.`;

  /** Judges one attribute: a word for the list and the reason, or nothing if it does not concern us. */
  const judge = (/** @type {Element} */ element, /** @type {string} */ name, /** @type {string} */ value) => {
    const { id } = page.clickstamp || {};
    if (id && value.includes(id)) return ["stamped", "Carries the click ID."];
    if (TOKEN.test(value)) {
      const why =
        because() || (config.y ? "Left to AnyTrack's tag for now; a click stamps it." : "The tag does not touch this place: use a link, or clickstamp(\"url\", …) in your script.");
      return ["placeholder", why];
    }
    if (name == "client-reference-id") return ["own", "Has a reference of its own, which stays."];
    if (!URLS.includes(name)) return;
    let url;
    try {
      url = new URL(value, document.baseURI);
    } catch {
      return;
    }
    if (!PAYMENT.test(url.href)) return;
    const own = url.searchParams.get("client_reference_id");
    if (own) return ["own", "Has a reference of its own, which stays."];
    return ["bare", because() || (config.u ? "Not seen yet." : "Has no placeholder: add ?client_reference_id=--CLICK-ID-- to it, or let the site's settings stamp links without one.")];
  };

  const look = () => {
    const found = [];
    for (const element of document.querySelectorAll("*")) {
      if (element == overlay) continue;
      for (const { name, value } of element.attributes) {
        const [state, why] = judge(element, name, value) || [];
        if (state) found.push({ state, why, place: `<${element.localName} ${name}>`, value, element });
      }
    }
    return found;
  };

  // In a shadow root, and with a sheet made by script: the page's styles do not reach it, and no policy of the page stops it.
  const overlay = document.createElement("div");
  overlay.id = "clickstamp-debug";
  const root = overlay.attachShadow({ mode: "open" });
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(`
    :host { all: initial; color-scheme: light dark; --ink: light-dark(#17171c, #f2f1ed); --soft: light-dark(#63636b, #a5a49e); --card: light-dark(#fff, #1d1d1b);
      --rule: light-dark(#e6e4de, #3a3a36); --sunk: light-dark(#f3f2ed, #2a2a27); --good: light-dark(#1d6f42, #5fbf8a); --open: light-dark(#b06a00, #e0a34a); --accent: light-dark(#2445d3, #9db0ff) }
    section { position: fixed; right: 12px; bottom: 12px; z-index: 2147483647; box-sizing: border-box; width: min(25rem, calc(100vw - 24px)); max-height: min(28rem, 60vh); overflow: auto;
      padding: 14px 16px; border: 1px solid var(--rule); border-radius: 10px; background: var(--card); color: var(--ink); box-shadow: 0 6px 28px #0003; font: 13px/1.45 system-ui, sans-serif }
    header { display: flex; align-items: center; gap: 8px; font-size: 14px; font-weight: 600 }
    header::before { content: ""; width: 9px; height: 9px; border-radius: 50%; background: var(--good) }
    .silent header::before { background: none; border: 2px solid var(--open); box-sizing: border-box }
    header button { margin-left: auto; padding: 2px 8px; border: 0; border-radius: 6px; background: none; color: var(--soft); font: inherit; font-weight: 400; cursor: pointer }
    p { margin: 4px 0 0 } .id, .url { font: 12px/1.45 ui-monospace, monospace; overflow-wrap: anywhere } .id, .why { color: var(--soft) } .silent .id { color: inherit; font: inherit }
    ul { display: flex; flex-wrap: wrap; gap: 6px; margin: 10px 0 0; padding: 0; list-style: none }
    ul li { padding: 1px 8px; border-radius: 9px; background: var(--sunk); font-size: 12px } ul li.none { color: var(--soft) }
    ol { margin: 10px 0 0; padding: 0; list-style: none } ol li { padding: 8px 0; border-top: 1px solid var(--rule) } ol li:last-child { padding-bottom: 0 }
    ol button { padding: 0; border: 0; background: none; color: var(--accent); font: inherit; font-weight: 600; text-align: left; text-decoration: underline; cursor: pointer }
    button:hover { background: var(--sunk) } button:focus-visible { outline: 2px solid var(--accent) }
    .mark { position: fixed; z-index: 2147483646; box-sizing: border-box; border: 2px solid var(--accent); border-radius: 4px; pointer-events: none }`);
  root.adoptedStyleSheets = [sheet];
  /**
   * An element of the overlay with what is in it.
   * @param {string} name
   * @param {string} className
   * @param {(string | Node)[]} content
   */
  const make = (name, className, ...content) => {
    const element = document.createElement(name);
    element.className = className;
    element.append(...content);
    return element;
  };
  const button = (/** @type {string} */ text, /** @type {() => void} */ work) => {
    const element = make("button", "", text);
    element.onclick = work;
    return element;
  };

  /** Shows where on the page an element is, with a frame of the overlay's own. */
  const point = (/** @type {Element} */ element) => {
    element.scrollIntoView({ block: "center" });
    const { left, top, width, height } = element.getBoundingClientRect();
    const mark = make("div", "mark");
    Object.assign(mark.style, { left: `${left - 4}px`, top: `${top - 4}px`, width: `${width + 8}px`, height: `${height + 8}px` });
    root.querySelector(".mark")?.remove();
    root.append(mark);
    setTimeout(() => mark.remove(), 4000);
  };

  const KINDS = { stamped: "stamped", placeholder: "with the placeholder", own: "with another reference", bare: "without" };
  let shown = "";
  let isHidden = false;
  const hide = () => {
    isHidden = true;
    root.replaceChildren();
  };
  const show = () => {
    const found = look();
    const id = page.clickstamp?.id;
    const others = found.filter(({ state }) => state != "stamped");
    const head = id || `Nothing is stamped, because ${silence()}.`;
    const counts = Object.entries(KINDS).map(([kind, words]) => `${found.filter(({ state }) => state == kind).length} ${words}`);
    const lines = others.map(({ place, value, why }) => `${place} ${value.slice(0, 80)}\n  ${why}`);
    const text = [`Clickstamp: ${head}`, counts.join(", "), ...lines].join("\n");
    if (text == shown || isHidden) return;
    shown = text;
    const rows = others.map(({ place, value, why, element }) =>
      make("li", "", button((element.textContent || "").trim().slice(0, 40) || place, () => point(element)), make("p", "url", `${place} ${value.slice(0, 80)}`), make("p", "why", why)),
    );
    const rest = !found.length ? "There is no payment link on this page yet." : !others.length ? "Every payment link on this page carries the click ID." : "";
    const card = make(
      "section",
      id ? "" : "silent",
      make("header", "", "Clickstamp", button("Hide", hide)),
      make("p", "id", head),
      make("ul", "", ...counts.map((count) => make("li", /^0/.test(count) ? "none" : "", count))),
      ...(rest ? [make("p", "why", rest)] : [make("ol", "", ...rows)]),
    );
    root.replaceChildren(card);
    console.info(text);
    console.table(found.map(({ element, ...told }) => told));
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
