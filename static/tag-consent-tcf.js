// Add-on for sites whose consent tool implements the Transparency and Consent Framework, version 2.
// Takes the tag and its config; uses the page's __tcfapi. Calls clickstamp("consent", …).
// Consent means purposes 1 (storage) and 7 (measuring ads), or that the rules do not apply. Guarantees that nothing
// counts before the visitor has decided.

((/** @type {(config: any) => void} */ core) => (/** @type {any} */ config) => {
  core(config);

  const page = /** @type {any} */ (window);
  const listen = (/** @type {number} */ wait) => {
    // The tool may come after us; the pauses grow, so that a page without one is not bothered.
    if (!page.__tcfapi) return setTimeout(listen, wait, wait * 2);
    page.__tcfapi("addEventListener", 2, (/** @type {any} */ data, /** @type {boolean} */ isHeard) => {
      // Not while the visitor is being asked: "cmpuishown".
      if (isHeard && /^(tcloaded|useractioncomplete)$/.test(data.eventStatus))
        page.clickstamp("consent", data.gdprApplies === false || !!(data.purpose?.consents[1] && data.purpose.consents[7]));
    });
  };
  listen(100);
})
