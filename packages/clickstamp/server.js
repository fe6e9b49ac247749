// Passes the visitor's click ID on to Stripe. Takes a request or its Cookie header; returns parameters for a Checkout
// Session. Guarantees that only a well-formed click ID is passed on and that no field is blank. Needs no Node API.
// Types and documentation: server.d.ts.

export const isClickId = (value) => typeof value == "string" && /^ck_[a-z0-9]{29,37}$/.test(value);

/** The Cookie header of a request, or of its headers in one of the forms that servers give them. */
const cookiesOf = (source) => {
  const headers = source?.headers ?? source;
  if (typeof headers == "string") return headers;
  if (typeof headers?.get == "function") return headers.get("cookie");
  return headers?.cookie ?? headers?.Cookie;
};

export const clickIdFrom = (source) =>
  // The last one counts, as in the tag.
  `${cookiesOf(source) ?? ""}`
    .split(/; */)
    .filter((pair) => pair.startsWith("_ck="))
    .map((pair) => pair.slice(4))
    .filter(isClickId)
    .pop();

/** Where Stripe copies metadata from to what outlives the session. */
const PLACES = new Map([["subscription", "subscription_data"], ["payment", "payment_intent_data"]]);

export const checkoutFields = (source, mode) => {
  const id = isClickId(source) ? source : clickIdFrom(source);
  if (!id) return {};
  const place = PLACES.get(mode);
  return {
    client_reference_id: id,
    metadata: { click_id: id },
    ...(place && { [place]: { metadata: { click_id: id } } }),
  };
};

export const withClickId = (params, source) => {
  const { client_reference_id: reference, ...rest } = params;
  const fields = checkoutFields(source, params.mode);
  const merged = { ...fields, ...rest, ...(reference && { client_reference_id: reference }) };
  if (fields.metadata) merged.metadata = { ...rest.metadata, ...fields.metadata };
  const place = PLACES.get(params.mode);
  if (fields[place])
    merged[place] = { ...rest[place], metadata: { ...rest[place]?.metadata, ...fields[place].metadata } };
  return merged;
};
