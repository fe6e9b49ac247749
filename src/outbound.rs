//! Builds the program's HTTP clients: for destinations, for Stripe's API, and for `clickstamp check`.
//! Takes nothing. Returns a builder with the program’s name and its TLS provider; the caller adds time limits.
//! Guarantees that a client for machines follows no redirect, repeats no request and uses no proxy.

use reqwest::ClientBuilder;
use reqwest::redirect::Policy;

/// The name that every request carries.
pub(crate) const USER_AGENT: &str = concat!("Clickstamp/", env!("CARGO_PKG_VERSION"));

/// A client for pages: as reqwest has it, with proxies of the environment.
pub(crate) fn for_pages() -> ClientBuilder {
    // An error means that it is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().user_agent(concat!(
        "Clickstamp/",
        env!("CARGO_PKG_VERSION"),
        " (check)"
    ))
}

/// A client for endpoints: what a message is sent to is exactly the address that was entered, once.
pub(crate) fn for_endpoints() -> ClientBuilder {
    for_pages()
        .user_agent(USER_AGENT)
        .redirect(Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
}
