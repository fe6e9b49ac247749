// Loads the tag and wraps its one global function. Takes the tag's address; returns the click ID and stamped URLs.
// Guarantees that nothing throws, that nothing of the page waits, and that a call without a tag or on a server is
// harmless. Types and documentation: index.d.ts.

const isBrowser = typeof window == "object";

/** The tag's function, or a queue for calls until it has loaded. */
const tag = () => {
  // An element with the ID "clickstamp" has this global name too, but is no function.
  if (!window.clickstamp?.call) {
    const stub = (window.clickstamp = function () {
      (stub.q = stub.q || []).push(arguments);
    });
  }
  return window.clickstamp;
};

const call = (...args) => (isBrowser ? tag()(...args) : undefined);

let isLoading;

export const load = (url) => {
  if (!isBrowser || !url || isLoading || tag().id != null) return;
  // Relative addresses are the page's, not the bundle's.
  const { href } = Object.assign(document.createElement("a"), { href: url });
  isLoading = true;
  // The page may have the tag's own line too.
  if ([...document.scripts].some(({ src }) => src == href)) return;
  // In Chromium, an import does not hold up the page's load event, as a script element does. In Firefox both do.
  import(/* webpackIgnore: true */ /* turbopackIgnore: true */ /* @vite-ignore */ href).catch(() => {
    isLoading = false;
  });
};

export const currentClickId = () => (isBrowser && window.clickstamp?.id) || undefined;

export const clickId = (wait = 1500) =>
  new Promise((resolve) => {
    call("ready", resolve);
    if (!isBrowser) resolve();
    else if (wait < 2 ** 31) setTimeout(() => resolve(currentClickId()), wait);
  });

export const stampedUrl = (url) => call("url", `${url}`) || `${url}`;

export const track = (name, properties) => void call("event", name, properties);

export const consent = (isGranted) => void call("consent", isGranted);

export const onClickId = (callback) => {
  if (!isBrowser) return () => {};
  const report = () => callback(currentClickId());
  document.addEventListener("clickstamp:ready", report);
  return () => document.removeEventListener("clickstamp:ready", report);
};
