// The signature in the cookie _ck_s: which parameters of a landing URL start a new click ID.
// Checks that every ad click ID that the server knows does, and that only ad click IDs and UTM parameters do.

import assert from "node:assert/strict";
import { test } from "node:test";
import { readFileSync } from "node:fs";
import { withBothTags } from "./lib/visitor.mjs";

/** Queries and their signatures; the server's test of redirect links reads the same file. */
const SIGNATURES = JSON.parse(readFileSync(new URL("../fixtures/signatures.json", import.meta.url), "utf8"));

/** The ad click IDs of the server's table. */
const AD_CLICK_IDS =
  "gclid gbraid wbraid dclid fbclid msclkid ttclid twclid li_fat_id rdt_cid ScCid epik _epik qclid obclid ob_click_id oppref dicbo aleid ndclid tblci irclickid yclid ysclid atclid";
const UTMS =
  "utm_source utm_medium utm_campaign utm_term utm_content utm_id utm_source_platform utm_creative_format utm_marketing_tactic";
/** Companions, plain parameters and names that only look alike. */
const OTHERS = "gclsrc gad_source gad_campaignid mc_eid ref via source utm_ id clid_x client_reference_id session_id _ck myutm_source page";

withBothTags((tag, newVisitor) => {
  /** The signature a fresh visitor gets for what follows the page's path. */
  const signatureOf = (tail) => {
    const visitor = newVisitor();
    visitor.open("https://www.shop.com/" + tail);
    return visitor.cookies.get("_ck_s").split(".")[0];
  };

  test(`${tag}: every ad click ID and UTM makes a signature, in any letter case`, () => {
    for (const name of `${AD_CLICK_IDS} ${UTMS}`.split(" "))
      for (const spelled of [name, name.toUpperCase()]) assert.match(signatureOf(`?${spelled}=x`), /^[a-z\d]{7}$/, spelled);
  });

  test(`${tag}: other parameters, and empty ones, make none`, () => {
    for (const name of OTHERS.split(" ")) assert.equal(signatureOf(`?${name}=x`), "", name);
    for (const name of `${AD_CLICK_IDS} ${UTMS}`.split(" ")) assert.equal(signatureOf(`?${name}=&a=1`), "", name);
    assert.equal(signatureOf("gclid=x"), "", "a path is no query");
  });

  test(`${tag}: it depends on values and their case, and on nothing else`, () => {
    const plain = signatureOf("?gclid=Ab&utm_source=x");
    for (const same of ["?a=1&gclid=Ab&b=2&utm_source=x", "?gclid=Ab#utm_source=x", "offer?gclid=Ab&gclid=&utm_source=x#top", "#/route?gclid=Ab&utm_source=x"])
      assert.equal(signatureOf(same), plain, same);
    for (const other of ["?gclid=ab&utm_source=x", "?gclid=Ab", "?gclid=Ab&utm_source=y"])
      assert.notEqual(signatureOf(other), plain, other);
  });

  test(`${tag}: it is what redirect links make of the same query`, () => {
    for (const [query, expected] of SIGNATURES) assert.equal(signatureOf(`?${query}`), expected, query);
  });

  test(`${tag}: the whole text counts, and neighbours do not cancel out`, () => {
    const long = "&utm_campaign=" + "c".repeat(2000);
    assert.notEqual(signatureOf("?gclid=a" + long), signatureOf("?gclid=b" + long));
    assert.notEqual(signatureOf("?utm_term=Aa"), signatureOf("?utm_term=BB"));
    const seen = new Set();
    for (let number = 0; number < 2000; number++) seen.add(signatureOf("?gclid=" + number.toString(36)));
    assert.equal(seen.size, 2000);
  });
});
