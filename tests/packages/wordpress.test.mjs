// The WordPress plugin in a real WordPress, in front of the real server. In: what an owner enters, and pages. Out: the two
// lines of Setup first in the head, and nothing anywhere else. Promise: no value of the setting puts anything else on a
// page, and PHP reports nothing.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import http from "node:http";
import { after, before, test } from "node:test";
import { goto, openReady, referenceOf, scene } from "../browser/lib/scene.mjs";
import { lacksWordPress, startWordPress } from "./lib/wordpress.mjs";

if (lacksWordPress) console.log(`SKIPPED: the WordPress plugin. ${lacksWordPress}`);
const STUB = readFileSync(new URL("../../static/tag-stub.min.js", import.meta.url), "utf8").trim();
const TAG = "https://go.example.com/t/main.js";
const OPTION = "clickstamp_tag_url";

let wordpress;
before(async () => {
  if (!lacksWordPress) wordpress = await startWordPress();
});
after(() => wordpress?.stop());

/** A page of the blog; fails if PHP reported anything about the plugin in it. */
const page = async (path) => {
  const { host } = new URL(wordpress.url);
  const response = await new Promise((resolve, reject) =>
    http.get({ host: "127.0.0.1", port: wordpress.port, path, headers: { host } }, resolve).on("error", reject),
  );
  let text = "";
  for await (const piece of response) text += piece;
  assert.equal(response.statusCode, path === "/wp-admin/" ? 302 : 200, path);
  assert.doesNotMatch(text, /plugins\/clickstamp\/clickstamp\.php<\/b> on line/, path);
  return text;
};
/** Stores a value as it is, without the form's check. */
const store = (value) => wordpress.php(`global $wpdb; wp_cache_flush(); delete_option('${OPTION}');
  return $wpdb->insert($wpdb->options, array('option_name' => '${OPTION}', 'option_value' => ${phpText(value)}, 'autoload' => 'yes'));`);
const phpText = (value) => `base64_decode('${Buffer.from(value).toString("base64")}')`;
const plugin = (name, run) => test(name, { skip: lacksWordPress }, run);

plugin("the two lines are the first scripts in the head, as Setup shows them, with the optimizers' attributes", async () => {
  store(TAG);
  const [, head] = /<head>([^]*?)<\/head>/.exec(await page("/"));
  const scripts = [...head.matchAll(/<script([^>]*)>([^]*?)<\/script>/g)].map(([, attributes, text]) => [attributes, text.trim()]);
  assert.ok(head.indexOf("<script") < head.indexOf("<link"), "before the theme's styles");
  const [[inline, stub], [line, nothing]] = scripts;
  assert.deepEqual([stub, nothing], [STUB, ""]);
  for (const attributes of [inline, line])
    for (const attribute of ['data-no-optimize="1"', 'data-no-defer="1"', 'data-cfasync="false"']) assert.ok(attributes.includes(attribute), attributes);
  for (const attribute of [" async", 'fetchpriority="high"', 'referrerpolicy="no-referrer-when-downgrade"', `src="${TAG}"`])
    assert.ok(line.includes(attribute), line);
  assert.equal(head.split("clickstamp=").length, 2, "once");
});

plugin("feeds, previews, embeds, AMP pages, the dashboard and pages that a theme leaves out have no tag", async () => {
  store(TAG);
  assert.match(await page("/?p=1"), /go\.example\.com/);
  for (const path of ["/?feed=rss2", "/?feed=atom", "/?preview=true", "/?p=1&embed=true", "/wp-login.php", "/wp-admin/", "/index.php?rest_route=/wp/v2/posts"])
    assert.doesNotMatch(await page(path), /go\.example\.com/, path);
  const printed = wordpress.php(`$printed = array();
    $look = function () use (&$printed) { ob_start(); do_action('wp_head'); $printed[] = strpos(ob_get_clean(), 'go.example.com') !== false; };
    $look();
    add_filter('clickstamp_is_wanted', '__return_false'); $look(); remove_filter('clickstamp_is_wanted', '__return_false');
    require ABSPATH . 'wp-admin/includes/admin.php'; set_current_screen('dashboard'); $look(); unset($GLOBALS['current_screen']);
    $look();
    function amp_is_request() { return true; } $look();
    return $printed;`);
  assert.deepEqual(printed, [true, false, false, true, false], "usual, left out by a filter, dashboard, usual, AMP");
});

plugin("an address, or the line that contains it, is accepted; nothing else is stored or printed", async () => {
  const accepted = [
    [TAG, TAG],
    [`  ${TAG}\n`, TAG],
    ["https://www.shop.com/k/t/main.js", "https://www.shop.com/k/t/main.js"],
    ["https://go.shop.com:8443/t/my-shop.static.js?v=a1b2", "https://go.shop.com:8443/t/my-shop.static.js?v=a1b2"],
    ["http://localhost:8080/t/main.js", "http://localhost:8080/t/main.js"],
    [`<script>${STUB}</script>\n<script async fetchpriority="high" src="${TAG}"></script>`, TAG],
    ["", ""],
  ];
  const refused = [
    "go.example.com/t/main.js", "http://go.example.com/t/main.js", "https://go.example.com/", "javascript:alert(1)//t/main.js",
    `${TAG}"><script>alert(1)</script>`, `${TAG}' onload='alert(1)`, `https://go.example.com/t/<b>.js`, "https://user@go.example.com/t/main.js",
    `${TAG}\nhttps://b`, "https://go.example.com/t/main.js#x", "<script>alert(1)</script>", "//go.example.com/t/main.js",
  ];
  const check = (values) => wordpress.php(`require_once ABSPATH . 'wp-admin/includes/admin.php'; clickstamp_register(); $said = array();
    foreach (json_decode(${phpText(JSON.stringify(values))}) as $value) { update_option('${OPTION}', '${TAG}'); update_option('${OPTION}', $value); $said[] = get_option('${OPTION}'); }
    return $said;`);
  assert.deepEqual(check(accepted.map(([entered]) => entered)), accepted.map(([, stored]) => stored));
  assert.deepEqual(check(refused), refused.map(() => TAG));
  // What another plugin or an import put there is not printed either.
  for (const value of ["", `${TAG}"><script>alert(1)</script>`, "javascript:alert(1)//t/main.js"]) {
    store(value);
    const html = await page("/");
    assert.ok(!html.includes("clickstamp=") && !html.includes("alert(1)"), value);
  }
});

plugin("the optimizers' filters get the tag's address and a text of the inline script, beside what was there", () => {
  store(TAG);
  const filters = [
    "rocket_exclude_js", "rocket_minify_excluded_external_js", "rocket_excluded_inline_js_content", "rocket_exclude_defer_js",
    "rocket_defer_inline_exclusions", "rocket_delay_js_exclusions", "litespeed_optimize_js_excludes", "litespeed_optm_js_defer_exc",
    "litespeed_optm_gm_js_exc", "perfmatters_minify_js_exclusions", "perfmatters_defer_js_exclusions", "perfmatters_delay_js_exclusions",
  ];
  const marks = ["go.example.com/t/main.js", "CLICK-ID"];
  const [all, first, text, none] = wordpress.php(`return array(
    array_map(function ($filter) { return apply_filters($filter, array('jquery.js')); }, json_decode('${JSON.stringify(filters)}')),
    apply_filters('rocket_defer_inline_exclusions', null),
    apply_filters('autoptimize_filter_js_exclude', 'jquery.js'),
    delete_option('${OPTION}') ? apply_filters('rocket_exclude_js', array('jquery.js')) : null,
  );`);
  assert.deepEqual(all, filters.map(() => ["jquery.js", ...marks]));
  assert.deepEqual([first, text, none], [marks, `jquery.js, ${marks.join(", ")}`, ["jquery.js"]]);
  assert.ok(STUB.includes(marks[1]));
});

const onPages = lacksWordPress ? (name) => test(name, { skip: lacksWordPress }) : scene;
onPages("an owner pastes the line of Setup, and the tag stamps the links of the blog", async ({ web, page }) => {
  store(`"><i id="injected">`);
  const admin = `${wordpress.url}/wp-admin/options-general.php?page=clickstamp`;
  await goto(page, `${wordpress.url}/wp-login.php?redirect_to=${encodeURIComponent(admin)}`);
  await page.type("#user_login", "owner");
  await page.type("#user_pass", "secret");
  const submit = (selector) => Promise.all([page.waitForNavigation({ waitUntil: "domcontentloaded" }), page.click(selector)]);
  await submit("#wp-submit");
  assert.equal(page.url(), admin);
  assert.equal(await page.$("#injected"), null, "the stored value is escaped");
  const enter = async (text) => {
    await page.$eval("#clickstamp_tag_url", (field, text) => (field.value = text), text);
    await submit("#submit");
    return page.$eval("#clickstamp_tag_url", ({ value }) => value);
  };
  const src = web.url("go.shop", "/t/main.js");
  assert.equal(await enter(`<script>…</script> <script async src="${src}"></script>`), src);
  assert.equal(await enter("no address"), src, "a wrong one is not stored");
  assert.match(await page.$eval(".notice-error", ({ textContent }) => textContent), /not the address of a tag/);

  wordpress.php(`return wp_update_post(array('ID' => 1, 'post_content' => '<a id="pay" href="${web.pay()}">Buy</a>'));`);
  const id = await openReady(page, `${wordpress.url}/?gclid=one`);
  await page.waitForFunction((href) => document.querySelector("#pay").href === href, {}, web.pay(id));
  await page.click("#pay");
  assert.equal(referenceOf(await web.payments.next()), id);
  wordpress.php("clickstamp_uninstall(); return true;");
  assert.equal(wordpress.php(`return get_option('${OPTION}', 'gone');`), "gone");
}, { console: [/Failed to load resource/, /^(log|warn|warning): JQMIGRATE/] });
