// Add-on for sites with Google's consent mode: uses the visitor's choice for ad_storage as the tag's consent.
// Takes the tag and its config; reads past and future entries of window.dataLayer. Calls clickstamp("consent", …).
// Guarantees that a default that denies only forbids and deletes nothing, because the visitor's own choice, an update,
// may follow.

((/** @type {(config: any) => void} */ core) => (/** @type {any} */ config) => {
  core(config);

  const page = /** @type {any} */ (window);
  const layer = (page.dataLayer = page.dataLayer || []);
  const { push } = layer;
  let update = "";
  let isAllowed = false;
  /** By a default, if only for some region: we do not know where the visitor is, so then only updates count. */
  let isDenied = false;
  let told = "";

  const hear = (/** @type {any} */ entries) => {
    try {
      for (const entry of entries) {
        const state = entry?.[0] == "consent" && entry[2].ad_storage;
        if (!state) continue;
        if (entry[1] == "update") update = state;
        else if (state != "granted") isDenied = true;
        else if (!entry[2].region) isAllowed = true;
      }
      const now = update || (isAllowed && !isDenied && "granted");
      if (now && now != told) page.clickstamp("consent", (told = now) == "granted");
    } catch {
      // What cannot be read is no consent.
    }
  };

  hear(layer);
  layer.push = function (/** @type {any[]} */ ...entries) {
    hear(entries);
    return push.apply(layer, entries);
  };
})
