// Add-on for sites with AnyTrack: captures the click IDs that AnyTrack's own tag uses on the page.
// Takes the tag and its config, and AnyTrack's function if the page has one. Sends AnyTrack's click IDs to the server;
// with `y`, it also starts the stamping of placeholders that AnyTrack left.
// Guarantees that each ID is sent once, and only while AnyTrack's tag is on the page, because others use such strings
// as user IDs.

((/** @type {(config: any) => void} */ core) => (/** @type {any} */ config) => {
  // The tag sets it too, in browsers that a program drives; there, nothing is stamped before it is used.
  const { y } = config;
  core(config);

  const page = /** @type {any} */ (window);
  /** @type {Record<string, unknown>} */
  const told = {};
  /** Tells an ID, and whether it is one: letters and digits alone, so never ours. */
  const note = (/** @type {any} */ a) =>
    page.AnyTrack && /^[^\W_]{14,64}$/.test(a) && (told[a] = told[a] || page.clickstamp("post", { a }));
  let rounds = 0;
  /** Asks AnyTrack; before it has loaded, its stub answers nothing. The tag calls back, so that nothing is thrown. */
  const ask = () =>
    page.clickstamp("ready", () => {
      if (!note(page.AnyTrack?.("atclid")) && rounds++ < 10) setTimeout(ask, 1000);
      else if (y) page.clickstamp("scan");
    });
  ask();

  addEventListener(
    "click",
    (event) => {
      ask();
      // What AnyTrack put in the placeholder's stead.
      event.composedPath().map((/** @type {any} */ node) =>
        note(/client_reference_id=(\w{26,40})(&|#|$)/.exec(node.href)?.[1]),
      );
    },
    true,
  );
})
