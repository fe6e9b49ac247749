// The tag in a real browser: links in all places, all ways to use them, and pages that change under it. In: pages of a
// small shop with placeholders. Out: what the link says, and what arrives at the pretend Stripe. Promise: the click ID
// arrives however the visitor leaves, and the console stays empty. Each test names its row of the acceptance list.

import assert from "node:assert/strict";
import { isWebKit, nextTab } from "./lib/browser.mjs";
import { TOKEN, arrivalOf, assertStamped, attribute, goto, openReady, postsSoFar, ready, referenceOf, scene } from "./lib/scene.mjs";

scene("F54 F55 F56 the rest of the URL is identical; every spelling, any parameter, any host", async ({ web, page }) => {
  const links = [
    `${web.pay()}&b=%20+%2B&a=é%zz&amp;c=1#frag?x=1`,
    web.pay("%2D%2DCLICK-ID%2D%2D"),
    web.pay("--click-id--"),
    web.pay(`${TOKEN}&again=${TOKEN}`),
    web.url("other", `/?x=1&sub5=${TOKEN}`),
    `/relative?r=${TOKEN}`,
    web.pay("mine"),
  ];
  web.page("/", `${links.map((href) => `<a href="${href}">Buy</a>`).join("")}`);
  await goto(page, web.shop());
  const before = await page.$$eval("a", (all) => all.map((a) => a.getAttribute("href")));
  web.page("/", `${web.tag}${links.map((href) => `<a href="${href}">Buy</a>`).join("")}`);
  const id = await openReady(page, web.shop());
  assert.deepEqual(
    await page.$$eval("a", (all) => all.map((a) => a.getAttribute("href"))),
    before.map((href) => href.replace(/(--|%2D%2D)CLICK-ID(--|%2D%2D)/gi, id)),
  );
});

scene("F57 every place", async ({ web, page }) => {
  const url = web.pay();
  web.page("/", `
    <map name="m"><area shape="default" href="${url}"></map><img usemap="#m" alt="">
    <form action="${url}"><input type="hidden" name="ref" value="${TOKEN}"><button formaction="${url}">Buy</button></form>
    <iframe src="${url}"></iframe><p data-href="${url}" data-url="${url}" data-at-value="${TOKEN}"></p>
    <b onclick="window.went = '${url}'">Buy</b><svg><a href="${url}"><text>Buy</text></a></svg>
    <input id="text" value="${TOKEN}"><textarea>${TOKEN}</textarea>${web.tag}`);
  const id = await openReady(page, web.shop());
  for (const [selector, name] of [["area", "href"], ["form", "action"], ["button", "formaction"], ["iframe", "src"], ["p", "data-href"], ["p", "data-url"], ["svg a", "href"]])
    await assertStamped(page, selector, name, url, id);
  await assertStamped(page, "input", "value", TOKEN, id);
  await assertStamped(page, "p", "data-at-value", TOKEN, id);
  assert.equal(await page.$eval("input", (input) => input.value), id);
  await page.click("b");
  assert.equal(await page.evaluate(() => window.went), url.replace(TOKEN, id));
  assert.equal(await page.$eval("#text", (input) => input.value), TOKEN);
  assert.equal(await page.$eval("textarea", (area) => area.value), TOKEN);
  await page.$eval("input", (input, token) => (input.value = token), TOKEN);
  await page.waitForFunction((id) => document.querySelector("input").value === id, {}, id);
});

/** Ways to send a form, each with what its markup needs; all forms have a field, a hidden input with the placeholder, and a button. */
const WAYS = [
  ["its button", {}, (page, at) => page.click(at("button"))],
  ["a button that names another address", { action: "/wrong", button: (url) => `<button formaction="${url}">Buy</button>` }, (page, at) => page.click(at("button"))],
  ["an image", { button: () => `<input type="image" alt="Buy" style="width:50px;height:20px">` }, (page, at) => page.click(at("[type=image]"))],
  ["Enter in a field", {}, async (page, at) => {
    await page.focus(at("[name=email]"));
    await page.keyboard.press("Enter");
  }],
  ["a dialog", { around: (form) => `<dialog open>${form}</dialog>` }, (page, at) => page.click(at("button"))],
  ["a button outside of it", { button: () => "", beside: `<button form="f">Buy</button>` }, (page, at) => page.click(at("button"))],
  ["requestSubmit()", {}, (page, at) => page.$eval(at("form"), (form) => form.requestSubmit())],
  ["submit()", {}, (page, at) => page.$eval(at("form"), (form) => form.submit())],
  ["a new tab", { attributes: `target="_blank"` }, (page, at) => page.click(at("button")), true],
];
/** In a shadow root the tag notices a form only by a click inside of it, not if a script or a button outside sends it. */
const TELLS_NOBODY = ["a button outside of it", "requestSubmit()", "submit()"];

// Each scene sends one form, because no other page can be opened in a tab that is on its way elsewhere, see `goto`.
for (const [way, { attributes = "", action, button = () => "<button>Buy</button>", beside = "", around = (form) => form }, send, opensTab] of WAYS)
  for (const place of ["the page", "an open shadow root"])
    for (const method of ["get", "post"]) {
      const isInPage = place === "the page";
      if (!isInPage && method === "post" && TELLS_NOBODY.includes(way)) continue;
      scene(`F57 a ${method} form in ${place}, sent by ${way}: what arrives has the ID`, async ({ web, page, visitor }) => {
        const url = web.url("buy.stripe", "/abc");
        const html = around(`<form id="f" method="${method}" action="${action ?? url}" ${attributes}><input name="email" value="a@b.example">
          <input type="hidden" name="client_reference_id" value="${TOKEN}">${button(url)}</form>`) + beside;
        web.page("/", isInPage
          ? `${html}${web.tag}`
          : `<div id="host"></div><script>host.attachShadow({ mode: "open" }).innerHTML = ${JSON.stringify(html)}</script>${web.tag}`);
        const id = await openReady(page, web.shop());
        const at = (selector) => (isInPage ? selector : `#host >>> ${selector}`);
        const sending = opensTab ? nextTab(visitor, () => send(page, at)) : send(page, at);
        const arrived = await arrivalOf(web, sending);
        assert.equal(referenceOf(arrived), id, arrived);
        assert.equal(new URL(arrived, url).searchParams.get("email"), "a@b.example");
      }, { webKitCannot: !isInPage && TELLS_NOBODY.includes(way) && "the engine has no Navigation API; a redirect link serves there" });
    }

for (const [way, method] of [["requestSubmit", "get"], ["requestSubmit", "post"], ["submit", "get"]])
  // No event reports submit(), and what it posts cannot be changed by anybody.
  scene(`F57 a script that puts the placeholder back and calls ${way}() of a ${method} form at once: what arrives has the ID`, async ({ web, page }) => {
    web.page("/", `<form method="${method}" action="${web.url("buy.stripe", "/abc")}"><input type="hidden" name="client_reference_id"></form>${web.tag}`);
    const id = await openReady(page, web.shop());
    const sending = page.$eval("form", (form, way, token) => {
      form.elements[0].value = token;
      form[way]();
    }, way, TOKEN);
    assert.equal(referenceOf(await arrivalOf(web, sending)), id);
  }, { webKitCannot: way === "submit" && "the engine has no Navigation API; a redirect link serves there" });

scene("F57 a form that only closes its dialog goes on doing so", async ({ web, page }) => {
  web.page("/", `<dialog open><form method="dialog" action="${web.pay()}"><input type="hidden" name="x" value="${TOKEN}"><button value="yes">Close</button></form></dialog>${web.tag}`);
  await openReady(page, web.shop());
  await page.click("button");
  await page.waitForFunction(() => !document.querySelector("dialog").open);
  assert.equal(await page.$eval("dialog", (dialog) => dialog.returnValue), "yes");
  assert.equal(page.url(), web.shop());
  assert.deepEqual(web.payments.all, []);
});

for (const name of ["stripe-buy-button", "stripe-pricing-table"])
  for (const when of ["before", "after"])
    scene(`F58 ${name}, defined ${when} the tag: its content sees the ID`, async ({ web, page }) => {
      const define = `customElements.define("${name}", class extends HTMLElement {
        connectedCallback() { this.textContent = this.getAttribute("client-reference-id") }
      })`;
      web.page("/", `<${name} client-reference-id="${TOKEN}"></${name}>${when === "before" ? `<script>${define}</script>` : ""}${web.tag}`);
      const id = await openReady(page, web.shop());
      if (when === "after") await page.evaluate(define);
      assert.equal(await page.$eval(name, (element) => element.textContent), id);
      assert.equal((await page.$$(name)).length, 1);
    });

scene("F61 links added later, in every way", async ({ web, page }) => {
  const html = `<a href="${web.pay()}">Buy</a>`;
  web.page("/", `${web.tag}<div id="root"></div><template>${html}</template><script>document.write(${JSON.stringify(html)})</script>`);
  const id = await openReady(page, web.shop());
  const count = await page.evaluate((html) => {
    const root = document.querySelector("#root");
    root.innerHTML = html;
    const link = Object.assign(document.createElement("a"), { href: root.firstChild.getAttribute("href") });
    root.appendChild(link);
    root.append(document.querySelector("template").content.cloneNode(true));
    const list = document.createElement("ul");
    root.append(list);
    for (let round = 0; round < 2; round++)
      list.replaceChildren(...[1, 2, 3].map(() => Object.assign(document.createElement("li"), { innerHTML: html })));
    return document.querySelectorAll("a").length;
  }, html);
  assert.equal(count, 7);
  await page.waitForFunction((id) => [...document.links].every((link) => link.href.endsWith(id)), {}, id);
  await page.$eval("#root a", (link, href) => link.setAttribute("href", href), web.pay());
  await page.waitForFunction((id) => document.querySelector("#root a").href.endsWith(id), {}, id);
});

/** A page whose link is in an open shadow root, so that only its use can stamp it. */
const shadowPage = (web, attributes = "") =>
  web.page("/", `${web.tag}<div id="host"></div><script>
    host.attachShadow({ mode: "open" }).innerHTML = '<a ${attributes} href="${web.pay()}">Buy</a>'</script>`);
const SHADOW_LINK = "#host >>> a";

scene("F62 a link in an open shadow root, on click", async ({ web, page }) => {
  shadowPage(web);
  const id = await openReady(page, web.shop());
  assert.equal(await attribute(page, SHADOW_LINK, "href"), web.pay());
  await page.click(SHADOW_LINK);
  assert.equal(referenceOf(await web.payments.next()), id);
});

for (const [name, go] of [
  ["location.href =", (url) => void (location.href = url)],
  ["location.assign", (url) => location.assign(url)],
  ["location.replace", (url) => location.replace(url)],
  ["a delayed redirect", (url) => void setTimeout(() => (location.href = url))],
  ["a link outside the document", (url) => Object.assign(document.createElement("a"), { href: url }).click()],
])
  scene(`F65 ${name}`, async ({ web, page }) => {
    web.page("/", web.tag);
    const id = await openReady(page, web.shop());
    assert.equal(referenceOf(await arrivalOf(web, page.evaluate(go, web.pay()))), id);
    assert.equal(web.payments.all.length, 1);
  }, { webKitCannot: "the engine has no Navigation API; a redirect link serves there" });

scene("F65 a link outside the document that opens a new tab", async ({ web, page, visitor }) => {
  web.page("/", `${web.tag}<button onclick="Object.assign(document.createElement('a'), { target: '_blank', href: '${web.pay("--CLICK' + '-ID--")}' }).click()">Buy</button>`);
  const id = await openReady(page, web.shop());
  await nextTab(visitor, () => page.click("button"));
  assert.equal(referenceOf(await web.payments.next()), id);
});

scene("F66 a popup that is opened empty gets the address from clickstamp(\"url\", …)", async ({ web, page, visitor }) => {
  web.page("/", `${web.tag}<button onclick="const popup = window.open(''); popup.location = clickstamp('url', '${web.pay("--CLICK' + '-ID--")}')">Buy</button>`);
  const id = await openReady(page, web.shop());
  await nextTab(visitor, () => page.click("button"));
  assert.equal(referenceOf(await web.payments.next()), id);
});

for (const [name, use, attributes = ""] of [
  ["a click", (page) => page.click("svg a")],
  ["a new tab", (page) => page.click("svg a"), 'target="_blank"'],
  ["a middle click", (page) => page.click("svg a", { button: "middle" })],
])
  scene(`F57 a link in SVG with its address in a namespace: ${name}`, async ({ web, page }) => {
    web.page("/", `<svg width="200" height="50"><a ${attributes} xlink:href="${web.pay()}"><text y="20">Buy this</text></a></svg>${web.tag}`);
    const id = await openReady(page, web.shop());
    assert.equal(await attribute(page, "svg a", "xlink:href"), web.pay(id));
    await use(page);
    assert.equal(referenceOf(await web.payments.next()), id);
  });

scene("F63 a link in a closed shadow root that opens a new tab, after its root was scanned", async ({ web, page }) => {
  web.page("/", `<div id="host" style="width:200px;height:50px"></div><script>
    window.clickstamp = window.clickstamp || function () { (clickstamp.q = clickstamp.q || []).push(arguments) };
    const root = host.attachShadow({ mode: "closed" });
    root.innerHTML = '<a target="_blank" style="display:block;height:50px" href="${web.pay()}">Buy</a>';
    clickstamp("scan", root)</script>${web.tag}`);
  const id = await openReady(page, web.shop());
  await page.click("#host");
  assert.equal(referenceOf(await web.payments.next()), id);
});

scene("F66 window.open", async ({ web, page, visitor }) => {
  web.page("/", `${web.tag}<button onclick="window.open('${web.pay("--CLICK' + '-ID--")}')">Buy</button>`);
  const id = await openReady(page, web.shop());
  await nextTab(visitor, () => page.click("button"));
  assert.equal(referenceOf(await web.payments.next()), id);
});

scene("F67 a refresh by meta element", async ({ web, page }) => {
  // As late as the tag finds it; a refresh without delay leaves before any script.
  web.page("/", `<meta http-equiv="refresh" content="1; url=${web.pay()}">${web.tag}`);
  const id = await openReady(page, web.shop());
  assert.equal(referenceOf(await web.payments.next()), id);
});

for (const [name, use, attributes] of [
  ["middle click", (page) => page.click(SHADOW_LINK, { button: "middle" })],
  ["click with the control key", async (page) => {
    await page.keyboard.down("Control");
    await page.click(SHADOW_LINK);
    await page.keyboard.up("Control");
  }],
  ["new tab", (page) => page.click(SHADOW_LINK), 'target="_blank"'],
  ["Enter key", async (page) => {
    await page.focus(SHADOW_LINK);
    await page.keyboard.press("Enter");
  }],
  ["touch", (page) => page.tap(SHADOW_LINK)],
])
  scene(`F68 ${name}`, async ({ web, page }) => {
    if (name === "touch") await page.setViewport({ width: 400, height: 800, hasTouch: true });
    shadowPage(web, attributes);
    const id = await openReady(page, web.shop());
    await use(page);
    assert.equal(referenceOf(await web.payments.next()), id);
  });

scene("F68 copied link: the address is right when the context menu opens", async ({ web, page }) => {
  shadowPage(web);
  const id = await openReady(page, web.shop());
  await page.evaluate(() => addEventListener("contextmenu", (event) => (window.copied = event.composedPath()[0].href), true));
  await page.click(SHADOW_LINK, { button: "right" });
  // WebKit's driver lets go over the menu's first entry, which opens the link.
  if (isWebKit) assert.equal(referenceOf(await web.payments.next()), id);
  else assert.equal(await (await page.waitForFunction(() => window.copied)).jsonValue(), web.pay(id));
});

scene("G74 calls queued before the tag run in order, once; ready afterwards fires at once", async ({ web, page }) => {
  web.page("/", `<script>window.clickstamp = window.clickstamp || function () { (clickstamp.q = clickstamp.q || []).push(arguments) }
    window.order = [];
    document.addEventListener("clickstamp:ready", (event) => order.push(["event", event.detail]));
    clickstamp("ready", (id) => order.push(["first", id]));
    clickstamp("ready", (id) => order.push(["second", id]));
    order.push(["stub", clickstamp("url", "x") ?? null]);</script>${web.tag}`);
  const id = await openReady(page, web.shop());
  await page.evaluate(() => clickstamp("ready", (id) => order.push(["late", id])));
  assert.deepEqual(await page.evaluate(() => order), [["stub", null], ["first", id], ["second", id], ["event", id], ["late", id]]);
});

scene("J82 routes of a single-page app: new links are stamped, no visit without a new source", async ({ web, page }) => {
  web.page("/", `${web.tag}<main></main>`);
  const id = await openReady(page, web.shop("/?gclid=one"));
  const render = async (route) => {
    await page.evaluate(route);
    await page.$eval("main", (main, href) => (main.innerHTML = `<a href="${href}">Buy</a>`), web.pay());
    await page.waitForFunction((id) => document.querySelector("main a").href.endsWith(id), {}, await ready(page));
  };
  await render(() => history.pushState(null, "", "/offer"));
  await render(() => history.replaceState(null, "", "/offer?page=2"));
  await render(() => (location.hash = "#/cart"));
  await render(() => new Promise((resolve) => {
    addEventListener("popstate", resolve, { once: true });
    history.back();
  }));
  assert.equal(await ready(page), id);
  assert.equal((await postsSoFar({ web, page })).length, 1);
});

scene("J82 a route with a new source: a visit of its own, and links with its ID", async ({ web, page }) => {
  web.page("/", `${web.tag}<main><a href="${web.pay()}">Buy</a></main>`);
  const id = await openReady(page, web.shop("/?gclid=one"));
  await page.evaluate(() => history.pushState(null, "", "/offer?gclid=two"));
  await page.waitForFunction((id) => clickstamp.id !== id, {}, id);
  const second = await ready(page);
  assert.notEqual(second, id);
  await page.waitForFunction((id) => document.querySelector("main a").href.endsWith(id), {}, second);
  assert.deepEqual((await postsSoFar({ web, page })).map(({ i, p }) => [i, p]), [[id, undefined], [second, id]]);
}, { webKitCannot: "the engine has no Navigation API: such a visit begins with the next page" });
