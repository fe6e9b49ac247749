// How long the tag's script runs on a page with 300 links, beside Umami's tracker on the same page.
// Takes this clone after `npm ci` in tests/, Chromium, and npm, from which the tracker's source is fetched; it is minified
// as ours is. Prints the machine, the command, both times and their ratio; a ratio above 1.5 is a failure.
// Both take turns in the same run, each time on a fresh page, and the ratio of the medians is what counts.
//
//     node tests/bench/tag.mjs [pages]

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import http from "node:http";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { minify } from "terser";
import { launchBrowser } from "../browser/lib/browser.mjs";

const UMAMI = "umami@2.10.0";
const MOST = 1.5;
const rounds = Number(process.argv[2] ?? 60);

/** Umami's tracker as its own server would send it, from its package. */
const fetchTracker = async () => {
  const folder = mkdtempSync(join(tmpdir(), "clickstamp-bench-"));
  try {
    const [{ filename }] = JSON.parse(execFileSync("npm", ["pack", UMAMI, "--json"], { cwd: folder, stdio: ["ignore", "pipe", "ignore"] }));
    execFileSync("tar", ["xzf", filename, "package/src/tracker/index.js"], { cwd: folder });
    const source = readFileSync(join(folder, "package/src/tracker/index.js"), "utf8");
    return (await minify(source.replace("__COLLECT_API_HOST__", "").replace("__COLLECT_API_ENDPOINT__", "/api/send"))).code;
  } finally {
    rmSync(folder, { recursive: true });
  }
};

/** 300 links in 900 elements, of which so many are payment links. */
const pageWith = (payments) =>
  `<!doctype html><title>Shop</title><main>${Array.from({ length: 300 }, (_, at) =>
    `<p><b>Product ${at}</b><a href="${at < payments ? "https://buy.stripe.com/abc?client_reference_id=--CLICK-ID--" : `/product?sku=${at}&color=red`}">Show</a></p>`).join("")}</main>`;

const server = http.createServer((request, response) => {
  request.resume();
  if (request.method === "POST") return response.writeHead(200, { "content-type": "application/json" }).end("{}");
  // An isolated page has a clock of five microseconds.
  response.writeHead(200, { "content-type": "text/html", "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp" });
  response.end(pageWith(Number(new URL(request.url, "http://any").searchParams.get("payments"))));
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const origin = `http://127.0.0.1:${server.address().port}`;

const tag = readFileSync(new URL("../../static/tag.min.js", import.meta.url), "utf8");
const tracker = await fetchTracker();
/** A script's text and attributes; a new click ID each time, as from the server. */
const SCRIPTS = {
  ours: (at) => {
    const config = {
      s: "main", e: "/v", k: "", o: "^https?://([^/]+\\.)?(stripe\\.com|paypal\\.com)[:/]",
      i: `ck_0${String(at).padStart(31, "a")}`, t: Math.floor(Date.now() / 1000),
    };
    return { text: `${tag}(${JSON.stringify(config)})`, attributes: {} };
  },
  umami: () => ({ text: tracker, attributes: { "data-website-id": "b5f0a2a0-0000-4000-8000-000000000000", "data-host-url": origin } }),
};

const browser = await launchBrowser();
/** Milliseconds in which a fresh page reads and runs a script. */
const timeOf = async (script, payments) => {
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  await page.goto(`${origin}/?payments=${payments}`, { waitUntil: "load" });
  const took = await page.evaluate(({ text, attributes }) => {
    const element = document.createElement("script");
    for (const name in attributes) element.setAttribute(name, attributes[name]);
    element.textContent = text;
    const before = performance.now();
    document.head.append(element);
    return performance.now() - before;
  }, script);
  await context.close();
  return took;
};

const median = (all) => all.toSorted((a, b) => a - b)[Math.floor(all.length / 2)];
try {
  console.log(`${cpus().length} × ${cpus()[0].model}, ${await browser.version()}, Node ${process.version}`);
  console.log(`node tests/bench/tag.mjs ${rounds}, against ${UMAMI}`);
  for (const payments of [3, 300]) {
    const times = { ours: [], umami: [] };
    for (let round = 0; round < rounds; round++)
      for (const name of round % 2 ? ["ours", "umami"] : ["umami", "ours"]) times[name].push(await timeOf(SCRIPTS[name](round), payments));
    const words = Object.entries(times).map(([name, all]) => `${name} ${median(all).toFixed(2)} ms (least ${Math.min(...all).toFixed(2)})`);
    const ratio = median(times.ours) / median(times.umami);
    const isGate = payments === 3;
    console.log(`300 links, ${payments} of them payment links: ${words.join(", ")}, ratio ${ratio.toFixed(2)}${isGate ? ` (most ${MOST})` : ""}`);
    if (isGate && ratio > MOST) process.exitCode = 1;
  }
} finally {
  await browser.close();
  server.close();
  server.closeAllConnections();
}
