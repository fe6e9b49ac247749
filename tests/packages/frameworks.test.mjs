// The recipes of docs/frameworks.md, run as they are printed: each in its framework's own package, on a page in front of
// the real server. In: the code blocks of the page, with the hosts of the tests. Out: stamped links, one visit, a payment.
// Promise: every code block of the page is run here, and the console stays empty.

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { compile as compileSvelte } from "svelte/compiler";
import { compileScript, parse } from "vue/compiler-sfc";
import { goto, postsSoFar, ready, referenceOf, scene } from "../browser/lib/scene.mjs";
import { createProject, MODULES, run } from "./lib/project.mjs";

const PAGE = readFileSync(new URL("../../docs/frameworks.md", import.meta.url), "utf8");
const BLOCKS = new Map([...PAGE.matchAll(/^```(\S.*)\n([^]*?)^```$/gm)].map(([, info, text]) => [info, text]));
const unused = new Set(BLOCKS.keys());
const project = createProject([], { isCopied: true });

/** A code block by what is behind its three backticks, with the hosts of the tests. */
const printed = (info, web) => {
  assert.ok(BLOCKS.has(info), info);
  unused.delete(info);
  return BLOCKS.get(info).replaceAll("https://go.example.com", web.url("go.shop", "")).replaceAll("https://buy.stripe.com", web.url("buy.stripe", ""));
};
/** The page counts one visit, its link has the click ID, and the click arrives at Stripe. */
const works = async ({ web, page }, path = "/") => {
  await goto(page, web.shop(`${path}?gclid=one`));
  const id = await ready(page);
  await page.waitForFunction((href) => document.querySelector("a")?.getAttribute("href") === href, {}, web.pay(id));
  assert.equal((await postsSoFar({ web, page })).length, 1);
  assert.equal(web.tagRequests.filter(({ method }) => method === "GET").length, 1);
  return id;
};
const pays = async ({ web, page }, id, selector = "a") => {
  await page.click(selector);
  assert.equal(referenceOf(await web.payments.next()), id);
};
/** A module of the recipe that is not installed here, with this text. */
const stand = (modules) => ({
  name: "stand-ins",
  setup: ({ onResolve, onLoad }) => {
    onResolve({ filter: new RegExp(`^(${Object.keys(modules).join("|")})$`) }, ({ path }) => ({ path, namespace: "stand-in" }));
    onLoad({ filter: /.*/, namespace: "stand-in" }, ({ path }) => ({ contents: modules[path], loader: "js", resolveDir: project.directory }));
  },
});
/** What a module of the recipe exports, run in Node. */
const load = async (text, modules = {}, options = {}) => {
  const script = await project.bundle(text, { format: "esm", platform: "node", plugins: [stand(modules)], ...options });
  const file = join(project.directory, `recipe-${(load.count = (load.count ?? 0) + 1)}.mjs`);
  writeFileSync(file, `import { createRequire } from "node:module"; const require = createRequire(import.meta.url); ${script}`);
  return import(file);
};

scene("plain HTML", async ({ web, page }) => {
  web.page("/", printed("html", web));
  await pays({ web, page }, await works({ web, page }));
});

scene("the npm package", async ({ web, page }) => {
  web.file("/shop.js", await project.bundle(printed("js shop.js", web)));
  web.page("/", '<button id="checkout">Buy</button><script src="/shop.js"></script>');
  await goto(page, web.shop("/?gclid=one"));
  await pays({ web, page }, await ready(page), "#checkout");
});

scene("React", async ({ web, page }) => {
  project.write("App.jsx", printed("jsx App.jsx", web));
  web.file("/app.js", await project.bundle('import { createRoot } from "react-dom/client"; import App from "./App.jsx"; createRoot(root).render(<App />)'));
  web.page("/", '<div id="root"></div><script src="/app.js"></script>');
  const id = await works({ web, page });
  await page.waitForFunction((id) => document.querySelector("p")?.textContent === `Reference: ${id}`, {}, id);
  await pays({ web, page }, id);
});

const RENDER = `import { renderToString } from "react-dom/server.node"; import Layout from "layout";
  export const html = async (href) => renderToString(await Layout({ children: <a href={href}>Buy</a> }))`;

scene("Next.js: the root layout", async ({ web, page }) => {
  const layout = printed("jsx app/layout.jsx", web);
  const { html } = await load(RENDER, { layout }, { loader: { ".js": "jsx" }, plugins: [jsxModules({ layout })] });
  web.page("/", await html(web.pay()));
  await pays({ web, page }, await works({ web, page }));
});

scene("Next.js: the layout with the nonce that the proxy sets", async ({ web, page }) => {
  const server = "export const NextResponse = { next: ({ request }) => ({ headers: new Headers(), request }) }";
  const { proxy } = await load(printed("js proxy.js", web), { "next/server": server });
  const { headers, request } = proxy(new Request("https://www.example.com/"));
  const nonce = request.headers.get("x-nonce");
  const layout = printed("jsx app/layout.jsx with a nonce", web);
  const { html } = await load(RENDER, {}, {
    plugins: [jsxModules({ layout, "next/headers": `export const headers = async () => new Headers({ "x-nonce": "${nonce}" })` })],
  });
  web.page("/", await html(web.pay()), { "content-security-policy": headers.get("content-security-policy") });
  await pays({ web, page }, await works({ web, page }));
});

scene("Next.js: the route handler", async ({ web }) => {
  const stripe = `export default class { checkout = { sessions: { create: async (sent) => ({ url: "https://checkout.stripe.com/c/" + sent.client_reference_id + "?" + sent.payment_intent_data?.metadata.click_id }) } } }`;
  const { POST } = await load(printed("js app/checkout/route.js", web), { stripe });
  const id = "ck_0" + "a".repeat(31);
  const answer = async (cookie) => (await POST(new Request("https://shop.com/checkout", { method: "POST", headers: { cookie } }))).headers.get("location");
  assert.equal(await answer(`a=b; _ck=${id}`), `https://checkout.stripe.com/c/${id}?${id}`);
  assert.equal(await answer("a=b"), "https://checkout.stripe.com/c/undefined?undefined");
});

/** The same as \`stand\`, for modules with JSX. */
function jsxModules(modules) {
  const { name, setup } = stand(modules);
  return { name, setup: (build) => setup({ ...build, onLoad: (filter, answer) => build.onLoad(filter, (asked) => ({ ...answer(asked), loader: "jsx" })) }) };
}

scene("Vue", async ({ web, page }) => {
  const { descriptor } = parse(printed("vue Buy.vue", web), { filename: "Buy.vue" });
  project.write("buy.js", compileScript(descriptor, { id: "buy", inlineTemplate: true }).content);
  const define = { "process.env.NODE_ENV": '"production"', __VUE_OPTIONS_API__: "true", __VUE_PROD_DEVTOOLS__: "false", __VUE_PROD_HYDRATION_MISMATCH_DETAILS__: "false" };
  web.file("/app.js", await project.bundle('import { createApp } from "vue"; import Buy from "./buy.js"; createApp(Buy).mount(root)', { define }));
  web.page("/", '<div id="root"></div><script src="/app.js"></script>');
  const id = await works({ web, page });
  await page.waitForFunction((id) => document.querySelector("p")?.textContent === `Reference: ${id}`, {}, id);
  await pays({ web, page }, id);
});

scene("Nuxt", async ({ web, page }) => {
  globalThis.defineNuxtConfig = (config) => config;
  const { default: config } = await load(printed("js nuxt.config.js", web));
  const [{ tagPriority, ...attributes }] = config.app.head.script;
  assert.equal(tagPriority, "critical");
  const line = Object.entries(attributes).map(([name, value]) => (value === true ? name : `${name}="${value}"`)).join(" ");
  web.page("/", `<script ${line}></script><a href="${web.pay()}">Buy</a>`);
  await pays({ web, page }, await works({ web, page }));
});

scene("SvelteKit's app.html, and a Svelte component beside it", async ({ web, page }) => {
  const { js } = compileSvelte(printed("svelte Buy.svelte", web), { generate: "client", filename: "Buy.svelte" });
  project.write("buy.svelte.js", js.code);
  web.file("/app.js", await project.bundle('import { mount } from "svelte"; import Buy from "./buy.svelte.js"; mount(Buy, { target: root })', { conditions: ["browser", "svelte"] }));
  web.page("/", printed("html app.html", web).replace("%sveltekit.head%", "").replace("%sveltekit.body%", '<div id="root"></div><script src="/app.js"></script>'));
  const id = await works({ web, page });
  await page.waitForFunction((id) => document.querySelector("p")?.textContent === `Reference: ${id}`, {}, id);
  await pays({ web, page }, id);
  web.page("/alone", '<div id="root"></div><script src="/app.js"></script>');
  await goto(page, web.shop("/alone"));
  assert.equal(await ready(page), id, "the component loads the tag where the page does not");
});

scene("Astro builds the layout; its view transitions keep the tag", async ({ web, page }) => {
  const site = mkdtempSync(join(tmpdir(), "clickstamp-astro-"));
  after(() => rmSync(site, { recursive: true, force: true }));
  symlinkSync(MODULES, join(site, "node_modules"));
  mkdirSync(join(site, "src/pages"), { recursive: true });
  writeFileSync(join(site, "package.json"), '{ "type": "module" }');
  writeFileSync(join(site, "astro.config.mjs"), 'export default { build: { format: "file" }, vite: { resolve: { preserveSymlinks: true } } }');
  writeFileSync(join(site, "src/Layout.astro"), printed("astro Layout.astro", web));
  const write = (name, body) => writeFileSync(join(site, `src/pages/${name}.astro`), `---\nimport Layout from "../Layout.astro";\n---\n<Layout>${body}</Layout>`);
  write("index", '<a href="/next" id="next">Next</a>');
  write("next", `<a href="${web.pay()}">Buy</a>`);
  // Through its interface, because its command refuses Node 20, with which it works.
  writeFileSync(join(site, "build.mjs"), 'import { build } from "astro"; await build({ logLevel: "warn" })');
  run(process.execPath, ["build.mjs"], { cwd: site, env: { ...process.env, ASTRO_TELEMETRY_DISABLED: "1" } });
  const built = (name) => readFileSync(join(site, "dist", name), "utf8");
  for (const [path, name] of [["/", "index.html"], ["/next", "next.html"]]) {
    web.page(path, built(name));
    for (const [, src] of built(name).matchAll(/src="(\/_astro\/[^"]+)"/g)) web.file(src, built(src));
  }
  await goto(page, web.shop("/?gclid=one"));
  const id = await ready(page);
  await page.evaluate(() => (window.isTheSame = true));
  await page.click("#next");
  await page.waitForFunction((href) => document.querySelector("a")?.getAttribute("href") === href, {}, web.pay(id));
  assert.ok(await page.evaluate(() => window.isTheSame), "the document stayed");
  assert.equal((await postsSoFar({ web, page })).length, 1);
  // While the transition runs, its picture lies over the page and takes the clicks.
  await page.evaluate(() => Promise.all(document.getAnimations().map(({ finished }) => finished)));
  await pays({ web, page }, id);
});

scene("Shopify: the cart gets the click ID, once the tag is there", async ({ web, page }) => {
  const posted = new Promise((resolve) => page.on("request", (request) => request.url().endsWith("/cart/update.js") && resolve(request.postData())));
  web.page("/", `<script>window.Shopify = { routes: { root: "/" } }</script>${web.tag}${printed("html cart", web)}`);
  await goto(page, web.shop());
  const id = await ready(page);
  assert.deepEqual(JSON.parse(await posted), { attributes: { click_id: id } });
});

scene("Google Tag Manager inserts the tag after the page has loaded", async ({ web, page }) => {
  // As Tag Manager does it: the HTML goes into the page as nodes, and its scripts as new ones with the same text.
  web.page("/", `<a href="${web.pay()}">Buy</a><script>addEventListener("load", () => {
    const template = document.createElement("div");
    template.innerHTML = ${JSON.stringify(printed("html tag manager", web)).replaceAll("</", "<\\/")};
    for (const { textContent } of template.querySelectorAll("script"))
      document.body.append(Object.assign(document.createElement("script"), { text: textContent }));
  })</script>`);
  await pays({ web, page }, await works({ web, page }));
});

test("every code block of the page is run", () => assert.deepEqual([...unused], []));
