/// <reference path="./tag.d.ts" />

/**
 * Loads the tag from its address, such as `https://go.example.com/t/main.js`. Call it as early as you can. Further
 * calls do nothing, also if the page has the tag's own line. The page's `load` event does not wait for it, except in
 * Firefox. Without an address it does nothing, so an environment variable that is missing in development is fine.
 */
export declare function load(url: string | URL | null | undefined): void;

/** The visitor's click ID, if it is known now. */
export declare function currentClickId(): string | undefined;

/**
 * The visitor's click ID, as soon as it is known. `undefined` after `wait` milliseconds (1,500 if omitted), because the
 * tag may be blocked or consent may be missing, and no payment should wait for it. `Infinity` waits for as long as it
 * takes. Never rejects.
 */
export declare function clickId(wait?: number): Promise<string | undefined>;

/** The URL with the click ID in place of `--CLICK-ID--`. Unchanged while there is no click ID. */
export declare function stampedUrl(url: string | URL): string;

/** Records something that the visitor did, such as "Lead", as a conversion without an amount. */
export declare function track(name: string, properties?: Record<string, string | number | boolean>): void;

/** The visitor's consent, for sites that ask for it. `false` deletes everything that is stored. */
export declare function consent(isGranted: boolean): void;

/** Calls back when the click ID gets known. Returns a function that stops that. */
export declare function onClickId(callback: (clickId: string | undefined) => void): () => void;
