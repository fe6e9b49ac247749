// What an owner chooses on the Setup page is what pages get, with the real binary: "Without a cookie".
// Signs the owner in with the first-run link, saves the choice, visits two pages of the shop, pays and sends Stripe's signed webhook.
// Guarantees that nothing is stored in the visitor's browser, that the payment link carries a click ID, and that the payment is matched to the ad of the landing page.

import assert from "node:assert/strict";
import { openVisitor } from "./lib/browser.mjs";
import { API_TOKEN, CLICK_ID, SECRET, arrivalOf, arrivedAt, browser, goto, openReady, ready, referenceOf, scene, server } from "./lib/scene.mjs";
import { askUntil, paidWith, sendWebhook } from "./lib/stripe.mjs";

/** Everything that a page can store in its browser. */
const stored = (page) =>
  page.evaluate(async () => ({
    cookie: document.cookie,
    local: { ...localStorage },
    session: { ...sessionStorage },
    databases: await indexedDB.databases(),
    caches: window.caches ? await caches.keys() : [],
  }));
const NOTHING = { cookie: "", local: {}, session: {}, databases: [], caches: [] };

/** The owner makes the first account and answers the question on the Setup page. */
const choose = async (label) => {
  const owner = await openVisitor(browser);
  const page = await owner.openPage();
  const submit = (selector) => Promise.all([page.waitForNavigation(), page.click(selector)]);
  const [setup] = await server.heard(/http:\S+\/setup\/account\?token=\w+/);
  await goto(page, setup);
  await page.type("#email", "ada@shop.example");
  await page.type("#password", "correct horse battery");
  await submit(".btn.main");
  assert.equal(new URL(page.url()).pathname, "/setup");
  const labels = await page.$$eval("label:has(input[name=consent])", (labels) => labels.map((label) => label.textContent.trim()));
  const index = labels.indexOf(label);
  assert.ok(index >= 0, `“${label}” is one of ${labels.join(", ")}`);
  await page.evaluate((index) => document.querySelectorAll("input[name=consent]")[index].click(), index);
  await submit('form[action$="/setup/consent"] button');
  assert.match(await page.$eval("main", (main) => main.textContent), new RegExp(`You chose what the tag stores\\s+${label}\\.`));
  assert.deepEqual(owner.said, []);
  await owner.close();
};

scene(
  "an owner chooses “Without a cookie” on Setup: two pages store nothing, and the payment is matched to the landing page's ad",
  async ({ web, page, visitor }) => {
    await choose("Without a cookie");
    web.page("/offer", `${web.tag}<a id="next" href="/cart">Cart</a>`);
    web.page("/cart", `${web.tag}<a id="pay" href="${web.pay()}">Buy</a>`);

    const landing = await openReady(page, web.shop("/offer?utm_source=google&utm_medium=cpc&utm_campaign=spring&gclid=AbC-1"));
    assert.match(landing, CLICK_ID);
    assert.equal((await web.posts.next()).i, landing);
    assert.deepEqual(await stored(page), NOTHING);

    await page.click("#next");
    await arrivedAt(page, "/cart");
    const id = await ready(page);
    assert.match(id, CLICK_ID);
    assert.notEqual(id, landing, "nothing links the two pages in the browser");
    assert.equal((await web.posts.next()).i, id);
    assert.deepEqual(await stored(page), NOTHING);
    assert.deepEqual(await visitor.context.cookies(), []);
    assert.deepEqual(web.tagAnswers.filter((headers) => headers["set-cookie"]), []);
    assert.deepEqual(web.tagRequests.filter(({ headers }) => headers.cookie), []);

    assert.equal(referenceOf(await arrivalOf(web, page.click("#pay"))), id);
    assert.equal((await sendWebhook(server, SECRET, paidWith(id, "cs_live_cookieless"))).status, 200);
    const { data } = await askUntil(server, API_TOKEN, "/conversions", ({ data }) => data[0]?.match.state === "matched");
    assert.deepEqual(data[0].match, { state: "matched", by: "click_id", reason: null, click_id: landing });
    const { source, medium, campaign, landing_path } = data[0].touches[0];
    assert.deepEqual({ source, medium, campaign, landing_path }, { source: "google", medium: "cpc", campaign: "spring", landing_path: "/offer" });
  },
  { needsServer: true },
);
