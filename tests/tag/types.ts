// A page that uses the tag's interface, for the compiler alone: every call of the contract is accepted, and every mistake is refused.

/** Set by the build: false in the script that stores nothing. */
declare const STORES: boolean;
/** The compiler's library has no Navigation API yet. */
declare const navigation: any;

const { clickstamp } = window;
if (clickstamp) {
  clickstamp("ready", (clickId: string) => void clickId.length);
  clickstamp("consent", true);
  clickstamp("event", "Lead");
  clickstamp("event", "Lead", { plan: "pro", seats: 3, trial: false });
  clickstamp("scan");
  clickstamp("scan", document.createElement("div").attachShadow({ mode: "closed" }));
  const url: string | undefined = clickstamp("url", "https://buy.stripe.com/x");
  const id: string | undefined = clickstamp.id;
  void [url, id];
  // @ts-expect-error: unknown command
  clickstamp("unknown");
  // @ts-expect-error: consent is a yes or a no
  clickstamp("consent", "yes");
  // @ts-expect-error: objects are no properties of an event
  clickstamp("event", "Lead", { nested: {} });
  // @ts-expect-error: only the tag sets the click ID
  clickstamp.id = "ck_mine";
}
document.addEventListener("clickstamp:ready", ({ detail }) => void detail.length);
