/**
 * The tag's interface for pages: one global function, safe to call before, after and without the tag.
 * A page that calls it early defines the queue stub first; what it queued runs once, in order.
 */
interface Clickstamp {
  /** Calls back with the click ID: at once if there is one, else as soon as there is; never without consent. */
  (command: "ready", callback: (clickId: string) => void): void;
  /** The visitor's word, where the site asks for it. `false` deletes everything and puts the placeholders back. */
  (command: "consent", granted: boolean): void;
  /** Something the visitor did, such as "Lead". It waits until there is a click ID. */
  (command: "event", name: string, props?: Record<string, string | number | boolean>): void;
  /** Stamps links that the tag cannot find on its own: in closed shadow roots and same-origin frames. */
  (command: "scan", root?: ParentNode): void;
  /** The URL stamped; unchanged without a click ID; undefined from the queue stub. */
  (command: "url", url: string): string | undefined;
  /** "" until there is a click ID; absent while only the queue stub is there. */
  readonly id?: string;
}

interface Window {
  clickstamp?: Clickstamp;
}

interface DocumentEventMap {
  "clickstamp:ready": CustomEvent<string>;
}
