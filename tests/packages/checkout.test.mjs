// The recipes of docs/checkout-sessions.md that tests/tag/checkout.test.mjs does not run: with the npm package, in PHP and
// in Ruby. In: cookies. Out: what Stripe's library gets; in PHP and Ruby it is a stand-in that returns its parameters.
// Promise: a click ID arrives in all three places, and without one, or with something else, none is sent.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { createProject, run } from "./lib/project.mjs";
import { lacksPhp } from "./lib/wordpress.mjs";

const PAGE = readFileSync(new URL("../../docs/checkout-sessions.md", import.meta.url), "utf8");
const printed = (info) => PAGE.split(`\`\`\`${info}\n`)[1].split("```")[0];

const ID = "ck_0" + "a".repeat(31);
/** Values of the cookie `_ck`, and whether they are a click ID. */
const COOKIES = [
  [ID, true],
  ["", false],
  [null, false],
  ["--CLICK-ID--", false],
  ["ck_short", false],
  ["ck_" + "a".repeat(38), false],
  [ID + "\n", false],
  [ID + "'", false],
  [`${ID}\nx`, false],
];
/** Compares what the library got for each of the cookies. */
const check = (answers) => {
  assert.equal(answers.length, COOKIES.length);
  COOKIES.forEach(([value, isId], at) => {
    const sent = answers[at];
    const found = [sent.client_reference_id, sent.metadata?.click_id, sent.subscription_data?.metadata.click_id];
    assert.deepEqual(found, found.map(() => (isId ? ID : undefined)), String(value));
    assert.ok(isId || !("client_reference_id" in sent || "metadata" in sent || "subscription_data" in sent), String(value));
    assert.deepEqual([sent.mode, sent.line_items], ["subscription", [{ price: "price_1", quantity: 1 }]]);
  });
};
const input = JSON.stringify(COOKIES.map(([value]) => value));

test("the recipe with the npm package", () => {
  const project = createProject([], { isCopied: true });
  project.write("recipe.mjs", printed("js with the package"));
  check(project.node("run.mjs", `import { createCheckout } from "./recipe.mjs";
    const stripe = { checkout: { sessions: { create: (sent) => sent } } };
    const headers = (value) => ({ headers: { cookie: value === null ? undefined : \`a=b; _ck=\${value}\` } });
    console.log(JSON.stringify(${input}.map((value) => createCheckout(stripe, headers(value), "price_1"))))`));
});

test("the PHP recipe", { skip: lacksPhp }, () => {
  const code = `${printed("php").replace("<?php", "namespace { class Sessions { function create($sent) { return $sent; } }\n")}
    $stripe = new \\Stripe\\StripeClient((object) array('sessions' => new Sessions));
    $answers = array();
    foreach (json_decode('${input.replace(/\\/g, "\\\\").replace(/'/g, "\\'")}') as $value) {
      $_COOKIE = $value === null ? array() : array('_ck' => $value);
      $answers[] = create_checkout($stripe, 'price_1');
    }
    echo json_encode($answers);
  }
  namespace Stripe { class StripeClient { public $checkout; function __construct($checkout) { $this->checkout = $checkout; } } }`;
  check(JSON.parse(run("php", ["-d", "display_errors=stderr", "-r", code])));
});

const hasRuby = spawnSync("ruby", ["--version"]).status === 0;
test("the Ruby recipe", { skip: !hasRuby && "Ruby is not installed (apt install ruby)" }, () => {
  const code = `module Stripe; module Checkout; class Session; def self.create(sent) = sent; end; end; end
    ${printed("ruby")}
    require "json"
    puts JSON.generate(JSON.parse($stdin.read).map { |value| create_checkout(value.nil? ? {} : { "_ck" => value }, "price_1") })`;
  check(JSON.parse(run("ruby", ["-W", "-e", code], { input })));
});
