// The tag's URLs and the filter lists of ad blockers: EasyPrivacy, EasyList and uBlock Origin's own.
// Reads the lists of Debian's package webext-ublock-origin-firefox if it is installed, and fails if a filter blocks a
// request of the tag at its default addresses.
// Exceptions in the lists are ignored. Row 86 of the acceptance list.

import assert from "node:assert/strict";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

const EXTENSIONS = "/usr/share/mozilla/extensions/{ec8030f7-c20a-464f-9b0e-13a3a9e97384}/uBlock0@raymondhill.net";
const ASSETS = ["/usr/share/webext/ublock-origin", EXTENSIONS].map((path) => join(path, "assets")).find(existsSync);
const LISTS = ["thirdparties/easylist/easyprivacy.txt", "thirdparties/easylist/easylist.txt", "ublock/privacy", "ublock/filters", "ublock/badware"];
const skip = !ASSETS && "uBlock Origin's lists are not installed here; Debian: apt install webext-ublock-origin-firefox";

/** Options under which a filter does something else than to stop a request. */
const HARMLESS = /^(csp|permissions|removeparam|queryprune|replace|uritransform|urlskip|header|redirect-rule|badfilter|generichide|ghide|elemhide|ehide|specifichide|shide|genericblock|popup|popunder|cname|inline-script|inline-font)(=|$)/;
const TYPES = {
  script: "script", xmlhttprequest: "fetch", xhr: "fetch", ping: "ping", beacon: "ping", document: "document", doc: "document",
  image: "image", stylesheet: "style", css: "style", font: "font", media: "media", object: "object", other: "other",
  subdocument: "frame", frame: "frame", websocket: "websocket", webrtc: "webrtc",
};

/** A filter as {text, literal, pattern, matches}, or nothing if it stops no request. */
const readFilter = (line) => {
  let text = line.trim();
  if (!text || /^(!|\[|@@|#)/.test(text) || /#[@?$%^]*#/.test(text)) return;
  let options = [];
  const dollar = text.lastIndexOf("$");
  if (dollar >= 0 && !text.endsWith("/") && !/[/\\|()]/.test(text.slice(dollar).replace(/=[^,]*/g, ""))) {
    options = text.slice(dollar + 1).split(",");
    text = text.slice(0, dollar);
  }
  if (options.some((option) => HARMLESS.test(option))) return;
  const wanted = new Set();
  const unwanted = new Set();
  let party;
  let pages;
  for (const option of options) {
    const [name, value] = option.replace(/^~/, "").split("=");
    const isNot = option.startsWith("~");
    // Filters for the network address or the host of somebody else.
    if (name === "ipaddress" || (name === "to" && /(^|\|)[^~]/.test(value))) return;
    if (TYPES[name]) (isNot ? unwanted : wanted).add(TYPES[name]);
    else if (/^(third-party|3p|strict3p)$/.test(name)) party = !isNot;
    else if (/^(first-party|1p|strict1p)$/.test(name)) party = isNot;
    else if (/^(domain|from)$/.test(name)) pages = value.split("|");
  }
  // A filter for named pages concerns only those; one that exempts pages concerns all others.
  if (pages?.some((page) => !page.startsWith("~"))) return;
  // Without a type a filter means everything but whole pages.
  const isFor = (type) => (wanted.size ? wanted.has(type) : !unwanted.has(type) && type !== "document");
  const body = /^[\w-]+(\.[\w-]+)+$/.test(text) ? `||${text}^` : text;
  let source;
  if (/^\/.+\/$/.test(body)) source = body.slice(1, -1);
  else
    source = body
      .replace(/[.+?{}()[\]\\/$]/g, "\\$&")
      .replace(/\*+/g, ".*")
      .replace(/^\|\|/, "^[a-z-]+:\\/\\/([^\\/?#]+\\.)?")
      .replace(/^\|/, "^")
      .replace(/\|$/, "$")
      .replace(/(?<!^)\^/g, "(?:[^\\w.%-]|$)");
  // The longest plain part must be in the address; that settles nearly every filter without a pattern.
  const literal = body.startsWith("/") && body.endsWith("/") ? "" : body.toLowerCase().split(/[|*^]+/).sort((a, b) => b.length - a.length)[0];
  let pattern;
  return {
    line,
    stops: ({ url, type, isThirdParty }) => {
      if (!url.toLowerCase().includes(literal) || !isFor(type) || (party !== undefined && party !== isThirdParty)) return false;
      try {
        pattern ??= new RegExp(source, options.includes("match-case") ? "" : "i");
      } catch {
        // An expression of another dialect.
        return false;
      }
      return pattern.test(url);
    },
  };
};

const readLists = () =>
  LISTS.flatMap((name) => {
    const path = [name, `${name}.min.txt`, `${name}.txt`].map((end) => join(ASSETS, end)).find((path) => existsSync(path));
    assert.ok(path, `${name} is not among ${readdirSync(ASSETS)}`);
    return readFileSync(path, "utf8").split("\n").map(readFilter).filter(Boolean);
  });

const CLICK_ID = "ck_0" + "f".repeat(31);

test("J86 the default addresses pass EasyPrivacy, EasyList and uBlock Origin's lists", { skip }, () => {
  const filters = readLists();
  assert.ok(filters.length > 50_000, `${filters.length} filters`);
  const stopped = (url, type, isThirdParty = false) => filters.filter((filter) => filter.stops({ url, type, isThirdParty })).map(({ line }) => line);
  // The lists are read rightly: what everybody knows to be stopped is, by host and by path.
  for (const [url, type, isThirdParty] of [
    ["https://www.google-analytics.com/analytics.js", "script", true],
    ["https://go.shop.com/piwik.js", "script", false],
    ["https://go.shop.com/matomo.php?action_name=x", "fetch", false],
  ])
    assert.notDeepEqual(stopped(url, type, isThirdParty), [], url);

  const found = [];
  for (const [host, isThirdParty] of [["go.shop.com", false], ["clickstamp.shop.com", false], ["go.company.net", true]])
    for (const [path, type] of [
      ["/t/main.js", "script"],
      ["/t/main.js?nc=1", "script"],
      ["/t/second-site.js", "script"],
      ["/v", "fetch"],
      ["/p/spring", "document"],
      [`/p/spring?utm_source=letter&gclid=abc&_ck=${CLICK_ID}.1`, "document"],
    ])
      for (const line of stopped(`https://${host}${path}`, type, isThirdParty)) found.push(`${line} stops ${host}${path}`);
  for (const line of stopped(`https://buy.stripe.com/8wM3cd?client_reference_id=${CLICK_ID}`, "document", true)) found.push(`${line} stops the payment link`);
  assert.deepEqual(found, []);
});
