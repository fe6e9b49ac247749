// The tag beside frameworks: pages that a server rendered and a script takes over, and pages whose body is swapped.
// In: React 19, Vue 3, Svelte, Turbo, htmx and Astro's ClientRouter as npm has them, bundled for production. Out: the links as the framework leaves them.
// Promise: the final link has the click ID, the framework works on, and the console stays empty. Each test names its row of the acceptance list.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { compile } from "svelte/compiler";
import { goto, openReady, postsSoFar, ready, referenceOf, scene } from "./lib/scene.mjs";

const HERE = fileURLToPath(new URL(".", import.meta.url));
const ASTRO = fileURLToPath(new URL("../node_modules/astro", import.meta.url));
const SHOP_SVELTE = `<script>let { href } = $props(); let count = $state(0)</script>
  <main><a {href}>Buy</a><button onclick={() => count++}>{count}</button>{#each { length: count } as _}<a {href}>Again</a>{/each}</main>`;
const BUY_SVELTE = `<script>let plan = $state("monthly"); let count = $state(0)</script>
  <main><button id="toggle" onclick={() => (plan = plan === "monthly" ? "yearly" : "monthly")}>{plan}</button><button id="again" onclick={() => count++}>{count}</button>
  {#key plan}<stripe-buy-button data-plan={plan} client-reference-id="--CLICK-ID--" customer-email={plan + count + "@shop.com"}></stripe-buy-button>{/key}</main>`;
const SVELTE_PAGES = { "shop.svelte": SHOP_SVELTE, "buy.svelte": BUY_SVELTE };

/** Compiles a Svelte page, for the browser or for the server. */
const svelte = (generate) => ({
  name: "svelte",
  setup: ({ onResolve, onLoad }) => {
    onResolve({ filter: /^(shop|buy)\.svelte$/ }, ({ path }) => ({ path, namespace: "page" }));
    onLoad({ filter: /.*/, namespace: "page" }, ({ path }) => ({ contents: compile(SVELTE_PAGES[path], { generate, filename: path }).js.code, resolveDir: HERE }));
  },
});

/** What Astro's own build puts in place of its virtual modules, for a site without an adapter. */
const astro = {
  name: "astro",
  setup: ({ onResolve, onLoad }) => {
    onResolve({ filter: /^astro:transitions\/client$/ }, () => ({ path: `${ASTRO}/dist/virtual-modules/transitions-router.js` }));
    onResolve({ filter: /^virtual:astro:/ }, ({ path }) => ({ path, namespace: "astro" }));
    onLoad({ filter: /.*/, namespace: "astro" }, () => ({ contents: "export const internalFetchHeaders = {}" }));
  },
};

/** One script out of this text and the packages it imports. */
const bundle = async (contents, { platform = "browser", format = "iife", loader = "js" } = {}) => {
  const { outputFiles } = await build({
    stdin: { contents, loader, resolveDir: HERE },
    bundle: true,
    write: false,
    minify: true,
    logLevel: "error",
    platform,
    format,
    target: "es2022",
    define: {
      "process.env.NODE_ENV": '"production"',
      "import.meta.env.DEV": "false",
      "import.meta.env.SSR": "false",
      __PREFETCH_DISABLED__: "true",
      __PREFETCH_PREFETCH_ALL__: "false",
      __PREFETCH_DEFAULT_STRATEGY__: '"hover"',
      __EXPERIMENTAL_CLIENT_PRERENDER__: "false",
      __VUE_OPTIONS_API__: "true",
      __VUE_PROD_DEVTOOLS__: "false",
      __VUE_PROD_HYDRATION_MISMATCH_DETAILS__: "false",
    },
    plugins: [svelte(platform === "browser" ? "client" : "server"), astro],
  });
  return outputFiles[0].text;
};
/** What such a script exports as its html, run here as the shop's server would. */
const render = async (contents) => {
  const text = await bundle(contents, { platform: "node", format: "cjs" });
  const module = { exports: {} };
  new Function("module", "exports", "require", text)(module, module.exports, createRequire(import.meta.url));
  return module.exports.html();
};

// Each is one page with a payment link, a button that counts, and as many more links as it has counted.
const REACT = `import { createElement as e, useState } from "react";
  const Shop = ({ href }) => {
    const [count, setCount] = useState(0);
    return e("main", null, e("a", { href }, "Buy"), e("button", { onClick: () => setCount(count + 1) }, count),
      Array.from({ length: count }, (_, key) => e("a", { key, href }, "Again")));
  };`;
const VUE = `import { createSSRApp, h, ref } from "vue";
  const Shop = { props: ["href"], setup: ({ href }) => {
    const count = ref(0);
    return () => h("main", [h("a", { href }, "Buy"), h("button", { onClick: () => count.value++ }, count.value),
      Array.from({ length: count.value }, () => h("a", { href }, "Again"))]);
  } };`;
const FRAMEWORKS = {
  "React 19": {
    server: (href) => `${REACT} import { renderToString } from "react-dom/server"; export const html = () => renderToString(e(Shop, { href: "${href}" }))`,
    client: (href) => `${REACT} import { hydrateRoot } from "react-dom/client";
      window.hydrate = () => hydrateRoot(root, e(Shop, { href: "${href}" }), { onRecoverableError: (error) => console.error(error.message) })`,
  },
  "Vue 3": {
    server: (href) => `${VUE} import { renderToString } from "vue/server-renderer"; export const html = () => renderToString(createSSRApp(Shop, { href: "${href}" }))`,
    client: (href) => `${VUE} window.hydrate = () => createSSRApp(Shop, { href: "${href}" }).mount(root)`,
  },
  Svelte: {
    server: (href) => `import Shop from "shop.svelte"; import { render } from "svelte/server"; export const html = () => render(Shop, { props: { href: "${href}" } }).body`,
    client: (href) => `import Shop from "shop.svelte"; import { hydrate } from "svelte"; window.hydrate = () => hydrate(Shop, { target: root, props: { href: "${href}" } })`,
  },
};

for (const [name, { server, client }] of Object.entries(FRAMEWORKS))
  for (const when of ["after the tag", "before the tag"])
    scene(`J84 ${name} takes over a page ${when}: the links are right, then and later`, async ({ web, page }) => {
      const html = await render(server(web.pay()));
      assert.ok(html.includes(web.pay()), "the server renders the placeholder");
      let release;
      web.holdScript = new Promise((resolve) => (release = resolve));
      web.file("/app.js", await bundle(client(web.pay())));
      web.page("/", `${web.lateTag}<div id="root">${html}</div><script src="/app.js"></script>`);
      await goto(page, web.shop());
      if (when === "before the tag") await page.evaluate(() => void window.hydrate());
      release();
      const id = await ready(page);
      if (when === "after the tag") await page.evaluate(() => void window.hydrate());
      const areStamped = (count) =>
        page.waitForFunction((count, href) => {
          const links = [...document.querySelectorAll("main a")];
          return links.length === count && links.every((link) => link.getAttribute("href") === href);
        }, {}, count, web.pay(id));
      await areStamped(1);
      // The framework is alive: it counts, and its new links are stamped too. Vue and React attach their listeners in a later task.
      await page.waitForFunction(() => {
        const button = document.querySelector("button");
        if (button.textContent === "0") button.click();
        return button.textContent !== "0";
      });
      await areStamped(2);
      await page.click("main a");
      assert.equal(referenceOf(await web.payments.next()), id);
    });

// Each is one of Stripe's buttons with a toggle that shows another one, and a counter that renders it again.
const REACT_BUY = `import { createElement as e, useState } from "react";
  const Shop = () => {
    const [plan, setPlan] = useState("monthly");
    const [count, setCount] = useState(0);
    return e("main", null, e("button", { id: "toggle", onClick: () => setPlan(plan === "monthly" ? "yearly" : "monthly") }, plan),
      e("button", { id: "again", onClick: () => setCount(count + 1) }, count),
      e("stripe-buy-button", { key: plan, "data-plan": plan, "client-reference-id": "--CLICK-ID--", "customer-email": plan + count + "@shop.com" }));
  };`;
const VUE_BUY = `import { createApp, createSSRApp, h, ref } from "vue";
  const Shop = { setup: () => {
    const plan = ref("monthly");
    const count = ref(0);
    return () => h("main", [h("button", { id: "toggle", onClick: () => (plan.value = plan.value === "monthly" ? "yearly" : "monthly") }, plan.value),
      h("button", { id: "again", onClick: () => count.value++ }, count.value),
      h("stripe-buy-button", { key: plan.value, "data-plan": plan.value, "client-reference-id": "--CLICK-ID--", "customer-email": plan.value + count.value + "@shop.com" })]);
  } };`;
const BUTTONS = {
  "React 19": {
    server: `${REACT_BUY} import { renderToString } from "react-dom/server"; export const html = () => renderToString(e(Shop))`,
    hydrate: `${REACT_BUY} import { hydrateRoot } from "react-dom/client"; window.start = () => hydrateRoot(root, e(Shop), { onRecoverableError: (error) => console.error(error.message) })`,
    render: `${REACT_BUY} import { createRoot } from "react-dom/client"; window.start = () => createRoot(root).render(e(Shop))`,
  },
  "Vue 3": {
    server: `${VUE_BUY} import { renderToString } from "vue/server-renderer"; export const html = () => renderToString(createSSRApp(Shop))`,
    hydrate: `${VUE_BUY} window.start = () => createSSRApp(Shop).mount(root)`,
    render: `${VUE_BUY} window.start = () => createApp(Shop).mount(root)`,
  },
  Svelte: {
    server: `import Buy from "buy.svelte"; import { render } from "svelte/server"; export const html = () => render(Buy).body`,
    hydrate: `import Buy from "buy.svelte"; import { hydrate } from "svelte"; window.start = () => hydrate(Buy, { target: root })`,
    render: `import Buy from "buy.svelte"; import { mount } from "svelte"; window.start = () => mount(Buy, { target: root })`,
  },
};
/** Stripe's button, as far as it concerns the tag: it reads its attribute when it connects, and never again. */
const STRIPE = `<script>customElements.get("stripe-buy-button") || customElements.define("stripe-buy-button", class extends HTMLElement {
  connectedCallback() { this.hasRead = this.getAttribute("client-reference-id") }
})</script>`;

for (const [name, { server, hydrate, render: renders }] of Object.entries(BUTTONS))
  for (const way of ["renders", "takes over"])
    scene(`J84 ${name} ${way} Stripe's buttons, again and in turn: one is there, it has read the click ID, and the page lives`, async ({ web, page }) => {
      const isHydrated = way === "takes over";
      web.file("/app.js", await bundle(isHydrated ? hydrate : renders));
      web.page("/", `${web.lateTag}${STRIPE}<div id="root">${isHydrated ? await render(server) : ""}</div><script src="/app.js"></script>`);
      const id = await openReady(page, web.shop());
      await page.evaluate(() => void window.start());
      const shows = (plan, count) =>
        page.waitForFunction((plan, email, id) => {
          const [button, ...others] = document.querySelectorAll("stripe-buy-button");
          return !others.length && button?.dataset.plan === plan && button.hasRead === id && button.getAttribute("customer-email") === email;
        }, {}, plan, `${plan}${count}@shop.com`, id);
      await shows("monthly", 0);
      // Vue and React attach their listeners in a later task.
      await page.waitForFunction(() => {
        const again = document.querySelector("#again");
        if (again.textContent === "0") again.click();
        return again.textContent === "1";
      });
      await shows("monthly", 1);
      for (const [at, plan] of ["yearly", "monthly", "yearly"].entries()) {
        await page.click("#toggle");
        await shows(plan, at + 1);
        await page.click("#again");
        await shows(plan, at + 2);
      }
    });

const BUY_BUTTON = `<stripe-buy-button client-reference-id="--CLICK-ID--"></stripe-buy-button>`;
/** Goes to the next page by its link, which the page's script turns into a swap. */
const swapped = async ({ web, page }, swaps) => {
  const id = await ready(page);
  await page.evaluate(() => (window.isTheSame = true));
  await page.click("#next");
  await page.waitForFunction((href) => document.querySelector("#pay")?.getAttribute("href") === href, {}, web.pay(id));
  assert.deepEqual(await page.$$eval("stripe-buy-button", (all) => all.map((button) => button.hasRead)), [id], "one of Stripe's buttons, and it has read the click ID");
  assert.ok(await page.evaluate(() => window.isTheSame), "the document stayed");
  assert.equal(page.url(), web.shop("/next"));
  if (swaps) assert.equal(await swaps(), 1, "the router swapped it");
  assert.equal((await postsSoFar({ web, page })).length, 1);
  await page.click("#pay");
  assert.equal(referenceOf(await web.payments.next()), id);
};

scene("J83 Turbo swaps the body: the new links are stamped, no second visit", async ({ web, page }) => {
  web.file("/app.js", await bundle('import "@hotwired/turbo"'));
  const head = `<head>${web.tag}${STRIPE}<script src="/app.js"></script></head>`;
  web.page("/", `${head}<body><a id="next" href="/next">Next</a></body>`);
  web.page("/next", `${head}<body><a id="pay" href="${web.pay()}">Buy</a>${BUY_BUTTON}</body>`);
  await openReady(page, web.shop("/?gclid=one"));
  await swapped({ web, page });
});

scene("J83 htmx swaps the body: the new links are stamped, no second visit", async ({ web, page }) => {
  web.file("/app.js", await bundle('import htmx from "htmx.org"; window.htmx = htmx'));
  const head = `${web.tag}${STRIPE}<script src="/app.js"></script>`;
  web.page("/", `${head}<body hx-boost="true"><a id="next" href="/next">Next</a></body>`);
  web.page("/next", `${head}<body><a id="pay" href="${web.pay()}">Buy</a>${BUY_BUTTON}</body>`);
  await openReady(page, web.shop("/?gclid=one"));
  await page.waitForFunction(() => window.htmx);
  await swapped({ web, page });
});

for (const fallback of ["", "without the browser's view transitions"])
  scene(`J83 Astro's ClientRouter swaps the page ${fallback || "in a view transition"}: the new links are stamped, no second visit`, async ({ web, page }) => {
    // The script of the component as Astro ships it; its build does no more than bundle it.
    const [, script] = /<script>([^]*)<\/script>/.exec(readFileSync(`${ASTRO}/components/ClientRouter.astro`, "utf8"));
    web.file("/app.js", await bundle(script, { loader: "ts" }));
    await page.evaluateOnNewDocument((fallback) => {
      const start = Document.prototype.startViewTransition;
      if (fallback) delete Document.prototype.startViewTransition;
      else if (start) Document.prototype.startViewTransition = function (...how) { return (window.transition = start.apply(this, how)) };
    }, !!fallback);
    const head = `<head><meta name="astro-view-transitions-enabled" content="true"><meta name="astro-view-transitions-fallback" content="animate">
      ${web.tag}${STRIPE}<script type="module" src="/app.js"></script></head>`;
    web.page("/", `${head}<body><a id="next" href="/next">Next</a></body>`);
    web.page("/next", `${head}<body><a id="pay" href="${web.pay()}">Buy</a>${BUY_BUTTON}</body>`);
    await openReady(page, web.shop("/?gclid=one"), { waitUntil: "load" });
    assert.equal(await page.evaluate(() => "startViewTransition" in document), !fallback && (await page.evaluate(() => "ViewTransition" in window)));
    await page.evaluate(() => document.addEventListener("astro:after-swap", () => (window.swaps = (window.swaps ?? 0) + 1)));
    // While the transition runs, its picture lies over the page and takes the clicks.
    await swapped({ web, page }, () => page.evaluate(async () => (await window.transition?.finished, window.swaps)));
  });
