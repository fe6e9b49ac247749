/// <reference path="./tag.d.ts" />

/** Loads the tag once and renders nothing. */
export declare function Clickstamp(props: {
  /** The tag's address, such as `https://go.example.com/t/main.js`. */
  src: string | undefined;
  /** For sites that ask for consent: the visitor's answer, omitted until there is one. */
  consent?: boolean | undefined;
}): null;

/** The visitor's click ID; `undefined` until it is known, and on the server. */
export declare function useClickId(): string | undefined;
