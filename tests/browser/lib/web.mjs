// A small web on loopback: shop pages, a tag host and a simulated Stripe, on one port with different host names. Takes
// pages and the behavior of the tag host; records what arrives, in order: posts at the tag host, visitors at Stripe.
// Guarantees that a test waiting for a request gets it at once, and that every request of the tag is recorded.

import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import http from "node:http";

const read = (name) => readFileSync(new URL(`../../../static/${name}`, import.meta.url), "utf8");
const TAG = read("tag.min.js");
const DEBUG = read("tag-debug.min.js");

/** WebKit's driver runs no script in a page before its own ones, so the tag's script begins with what hides the driver. */
const HIDE_DRIVER = process.env.WEBKIT ? `Object.defineProperty(navigator, "webdriver", { value: false, configurable: true });` : "";

/** A list that can be waited on: `next` gives the entries one by one, those to come included. */
export class Arrivals {
  all = [];
  #taken = 0;
  #waiting = [];
  add(entry) {
    this.all.push(entry);
    if (this.#waiting.length) {
      this.#taken++;
      this.#waiting.shift()(entry);
    }
  }
  next() {
    if (this.#taken < this.all.length) return Promise.resolve(this.all[this.#taken++]);
    return new Promise((resolve) => this.#waiting.push(resolve));
  }
  /** The first entry like this; the ones before it are taken too. */
  async until(isLike) {
    for (;;) {
      const entry = await this.next();
      if (isLike(entry)) return entry;
    }
  }
}

const readBody = async (request) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
};

/** The tag host without a server: the committed tag, a config like the server's, and 204 for every body. */
const standIn = async (request) => {
  const host = request.headers.host;
  const { origin } = request.headers;
  const allowed = origin && { "access-control-allow-origin": origin, "access-control-allow-credentials": "true" };
  if (request.method === "POST") return { status: 204, headers: { "cache-control": "no-store", ...allowed }, body: "" };
  const isFixed = request.url.includes(".static.js");
  const config = {
    ...(!isFixed && {
      i: "ck_0" + [...randomBytes(31)].map((byte) => (byte % 32).toString(32)).join(""),
      t: Math.floor(Date.now() / 1000),
    }),
    s: "main",
    e: `http://${host}/v`,
    // The page's domain, as far as the tests' own hosts go.
    k: ";domain=" + (/[^./]+\.localhost(?=[:/])/.exec(request.headers.referer)?.[0] ?? "shop.localhost"),
    o: "^https?://([^/]+\\.)?(shop\\.localhost|stripe\\.localhost|stripe\\.com|paypal\\.com)[:/]",
    ...(request.url.includes("nc=1") && { m: 1 }),
  };
  return {
    status: 200,
    headers: {
      "content-type": "text/javascript; charset=utf-8",
      "x-content-type-options": "nosniff",
      "cache-control": isFixed ? "public, max-age=300" : "private, no-store, no-transform",
      "cross-origin-resource-policy": "cross-origin",
      ...(request.headers.origin && { "access-control-allow-origin": request.headers.origin }),
    },
    body: `${request.url.includes("debug=1") ? `${DEBUG}(${TAG})` : TAG}(${JSON.stringify(config).replace("{", '{"__proto__":null,')})`,
  };
};

/** The tag host in front of a running server: the request goes there as it came, host name and cookies included. */
const forward = (server) => (request, body) =>
  new Promise((resolve, reject) => {
    const { method, url } = request;
    const headers = { ...request.headers, "accept-encoding": "identity" };
    const onward = http.request(new URL(url, server), { method, headers }, async (response) => {
      const text = await readBody(response);
      const { "transfer-encoding": _, ...kept } = response.headers;
      resolve({ status: response.statusCode, headers: kept, body: text });
    });
    onward.on("error", reject);
    onward.end(body);
  });

/** Opens the web on a free port. Behind its tag host is a running server, if one is named, else a stand-in. */
export const openWeb = async (behind = process.env.CLICKSTAMP_URL) => {
  const answer = behind ? forward(behind) : standIn;
  const pages = new Map();
  const web = {
    /** Requests at the tag host as {method, url, headers, body}; posts alone; addresses called at the pretend Stripe, with what a form posted as their query. */
    tagRequests: [],
    /** Headers of what was answered to them. */
    tagAnswers: [],
    posts: new Arrivals(),
    /** A post to this path of the tag host is a mark among the posts; it is neither on record nor forwarded. */
    markPath: "/mark",
    /** Hosts that pass the tag's paths on, as a reverse proxy does; go.shop always is the tag host. */
    tagHosts: new Set(),
    payments: new Arrivals(),
    /** Changes the script's text on its way to the page: (text, the request's path and query) => text. */
    alterScript: (text) => text,
    /** Answers the script request in place of the tag host: (response) => void. */
    answerScript: undefined,
    /** Answers a post in place of the tag host: (response) => void. The body is on record in tagRequests alone. */
    answerPost: undefined,
    /** The script's or a post's answer waits for this promise. */
    holdScript: undefined,
    holdPosts: undefined,
    /** Posts are cut off without an answer. */
    dropPosts: false,
    /** Posts get this status and no header, as from a proxy whose server is away. */
    refusePosts: 0,
    /** A script that runs first in every page without a policy, and the receiver of the messages it reports: for browsers whose driver reports none. */
    initScripts: [],
    onSaid: () => {},
  };

  /** The bodies that arrived. */
  const bodies = new Set();
  const serveTag = async (request, response) => {
    const body = await readBody(request);
    const { method, url, headers } = request;
    if (url === web.markPath) {
      web.posts.add({ isMark: true });
      return response.writeHead(204).end();
    }
    web.tagRequests.push({ method, url, headers, body });
    if (method === "POST") {
      if (web.answerPost) return web.answerPost(response);
      if (web.dropPosts) return request.socket.destroy();
      if (web.refusePosts) return response.writeHead(web.refusePosts).end();
      // A page that was left before it could read the answer leaves its body to the next page, which sends it again; the
      // server stores it once.
      if (!bodies.has(body)) web.posts.add({ ...JSON.parse(body), bytes: body.length, headers });
      bodies.add(body);
      await web.holdPosts;
    } else {
      if (web.answerScript) return web.answerScript(response);
      await web.holdScript;
    }
    const answered = await answer(request, body);
    const text = method === "GET" ? HIDE_DRIVER + web.alterScript(answered.body, request.url) : answered.body;
    const { "content-length": _, ...kept } = answered.headers;
    web.tagAnswers.push(kept);
    response.writeHead(answered.status, kept).end(text);
  };

  const server = http.createServer((request, response) => {
    // Whom it serves as a proxy names the host in the address too; what is behind another port is not here.
    if (/^http:/.test(request.url) && new URL(request.url).port !== String(port)) return request.socket.destroy();
    request.url = request.url.replace(/^http:\/\/[^/]+/, "");
    const host = request.headers.host.split(":")[0];
    const path = request.url.split("?")[0];
    if (path === "/said") readBody(request).then((text) => (web.onSaid(text), response.writeHead(204).end()));
    else if (path === "/favicon.ico") response.writeHead(204).end();
    else if (host === "go.shop.localhost" || (web.tagHosts.has(host) && /^\/(t\/|v$|mark$)/.test(path))) serveTag(request, response).catch(() => request.socket.destroy());
    else if (host === "buy.stripe.localhost") {
      const paid = (posted) => {
        web.payments.add(request.url + posted);
        response.writeHead(200, { "content-type": "text/html" }).end("<!doctype html><title>Pay</title>");
      };
      if (request.method === "POST") readBody(request).then((body) => paid(`?${body}`));
      else paid("");
    } else {
      const { html = "", headers, script } = pages.get(request.headers.host + path) ?? pages.get(path) ?? {};
      if (script) return response.writeHead(200, { "content-type": "text/javascript; charset=utf-8" }).end(script);
      response.writeHead(200, { "content-type": "text/html; charset=utf-8", ...headers });
      const first = headers?.["content-security-policy"] ? "" : web.initScripts.map((text) => `<script>${text}</script>`).join("");
      response.end(`<!doctype html><title>Shop</title>${first}${html}`);
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();

  web.url = (host, path = "/") => `http://${host}.localhost:${port}${path}`;
  web.shop = (path) => web.url("www.shop", path);
  /** A payment link with this reference; the placeholder by default. */
  web.pay = (reference = "--CLICK-ID--") => web.url("buy.stripe", `/abc?client_reference_id=${reference}`);
  const src = web.url("go.shop", "/t/main.js");
  web.tag = `<script async src="${src}"></script>`;
  /** The tag for pages that it reaches late or never. WebKit's driver runs no script in a page that is still loading: there it comes after that. */
  web.lateTag = !process.env.WEBKIT
    ? web.tag
    : `<script>addEventListener("load", () => setTimeout(() => document.head.append(Object.assign(document.createElement("script"), { src: "${src}" }))))</script>`;
  /** Puts a page under a path of every shop host. */
  web.page = (path, html, headers) => pages.set(path, { html, headers });
  /** A page of somebody else's host, and its address here. */
  web.foreignUrl = (host, path = "/") => `http://${host}:${port}${path}`;
  web.foreignPage = (url, html, headers) => pages.set(url.slice("http://".length), { html, headers });
  /** Puts a script of the shop's own under a path. */
  web.file = (path, script) => pages.set(path, { script });
  web.close = () => {
    server.close();
    server.closeAllConnections();
  };
  return web;
};
