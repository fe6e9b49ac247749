// Setup of the browser tests: one visitor with a web server of their own. Takes a name and the test's function; defines
// a test that passes only if the function does and the console stays empty. Guarantees that tests share only the
// running browser, and that requests which hang end with their test.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { isFirefox, isWebKit, launchBrowser, openVisitor } from "./browser.mjs";
import { startServer } from "./server.mjs";
import { openWeb } from "./web.mjs";

export * from "./page.mjs";

/** The one browser of a test file, for tests that need a second visitor. */
export let browser;
/** The server behind the tag host: one of CLICKSTAMP_BINARY's own, or the one CLICKSTAMP_URL names, or none. */
export let server;
export const SECRET = "whsec_of_the_tests";
export const API_TOKEN = "a-token-for-the-tests";
before(async () => {
  browser = await launchBrowser();
  if (process.env.CLICKSTAMP_BINARY) server = await startServer({
    CLICKSTAMP_VISIT_RATE: "0",
    CLICKSTAMP_STRIPE_WEBHOOK_SECRET: SECRET,
    CLICKSTAMP_API_TOKEN: API_TOKEN,
  });
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

/**
 * A test with one visitor and a web server of their own. `isAutomated`: pages see that a program drives the browser. `console` lists the messages that the browser may log; any other fails the test.
 * `needsServer`: it is about an answer of the real binary, which the stand-in does not give. `firefoxLacks`: what there is not in
 * that engine, so that there is nothing to test; `webKitCannot`: the same, or what its driver cannot do.
 */
export const scene = (name, play, { console: expected = [], isAutomated, needsServer, firefoxLacks, webKitCannot } = {}) => {
  const skip =
    (needsServer && !process.env.CLICKSTAMP_BINARY && "without CLICKSTAMP_BINARY there is no server") ||
    (isFirefox && firefoxLacks && `Firefox has no ${firefoxLacks}`) ||
    (isWebKit && webKitCannot && `WebKitGTK: ${webKitCannot}`);
  test(name, { timeout: 90_000, skip }, async ({ signal }) => {
    // What hangs must not keep the browser or the web open.
    const timeUp = new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    const web = await openWeb(server?.url);
    const automated = isAutomated && (await launchBrowser({ isAutomated }));
    const visitor = await openVisitor(automated || browser, web, { isAutomated });
    try {
      web.initScripts = visitor.context.initScripts ?? [];
      web.onSaid = visitor.note;
      const page = await visitor.openPage();
      await Promise.race([timeUp, play({ web, visitor, page })]);
      const unexpected = visitor.said.filter((said) => !expected.some((text) => text.test(said)));
      assert.deepEqual(unexpected, [], "the console stays empty");
    } finally {
      await visitor.close();
      await automated?.close?.();
      web.close();
    }
  });
};
