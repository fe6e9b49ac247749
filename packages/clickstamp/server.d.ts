/** A fetch `Request`, a Node, Express or Fastify request, their headers, or the text of a Cookie header. */
export type CookieSource =
  | string
  | null
  | undefined
  | HeadersLike
  | { headers: HeadersLike };

type HeadersLike =
  | { get(name: string): string | null | undefined }
  | { [name: string]: string | string[] | number | undefined };

/** The click ID in the cookie `_ck`, or `undefined`. Of several cookies with that name, the last valid one counts. */
export declare function clickIdFrom(source: CookieSource): string | undefined;

/** Whether a value has the form of a click ID; for one that the browser sent in another way. */
export declare function isClickId(value: unknown): value is string;

export interface ClickIdFields {
  client_reference_id?: string;
  metadata?: { click_id: string };
  /** For `mode: "subscription"`, so that renewals are matched too. */
  subscription_data?: { metadata: { click_id: string } };
  /** For `mode: "payment"`. */
  payment_intent_data?: { metadata: { click_id: string } };
}

/**
 * What a Checkout Session needs, to spread into its parameters. Empty without a click ID, because Stripe refuses a blank
 * `client_reference_id`. `source` may also be a click ID itself.
 */
export declare function checkoutFields(
  source: CookieSource,
  mode?: "payment" | "subscription" | "setup" | (string & {}) | null,
): ClickIdFields;

/**
 * The parameters of a Checkout Session with the click ID added. Keeps your own `metadata` and a `client_reference_id` of
 * your own; removes one that is blank. `source` may also be a click ID itself.
 */
export declare function withClickId<Params extends object>(params: Params, source: CookieSource): Params;
