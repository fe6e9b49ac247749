// Add-on for sites whose payment links have no placeholder: adds the click ID to payment links without a reference.
// Takes the tag and its config, with the site's own pattern of payment links as `h` if it has one. Sets
// client_reference_id in links.
// Guarantees that an existing reference stays unchanged, and that only links to payment hosts are changed.

((/** @type {(config: any) => void} */ core) => (/** @type {any} */ config) => {
  const other = config.l;
  const isPaymentLink = RegExp(config.h || "^https?://(buy|book|donate)\\.stripe\\.com/");

  // Values without placeholder must be seen too, and Stripe's elements, which all have a publishable key.
  config.q = "],[publishable-key]";
  config.l = (/** @type {any} */ value, /** @type {string} */ id, /** @type {Element | undefined} */ element) => {
    // The one attribute that the tag asks for although it is not there.
    if (!value) return element?.matches("[publishable-key]") && id;
    // Tested on the URL as the browser reads it; what is no URL throws, and the tag takes that for a no. Most links of a
    // page name no host and lead to the page’s own; reading all of them would take too long.
    return (/[\\/]{2}|:/.test(value) || isPaymentLink.test(/** @type {any} */ (location))) && element?.localName != "link" && isPaymentLink.test(/** @type {any} */ (new URL(value, /** @type {any} */ (location))))
      ? value.replace(
          /([^#]*?)([?&]client(?:_|%5f)reference(?:_|%5f)id=|(?=#|$))([^&#]?)/i,
          (/** @type {string} */ all, /** @type {string} */ head, /** @type {string} */ name, /** @type {string} */ text) =>
            text ? all : head + (name || (/\?/.test(head) ? "&" : "?") + "client_reference_id=") + id,
        )
      : other?.(value, id, element);
  };

  core(config);
})
