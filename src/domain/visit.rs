//! Words of visits.

use super::words;

words! {
    /// Kind of traffic that a visit came from.
    #[derive(Default)]
    pub enum Channel {
        /// An ad in a search engine.
        PaidSearch = "paid search",
        /// An ad in a social network.
        PaidSocial = "paid social",
        /// Another ad.
        Paid = "paid",
        /// A link in an email.
        Email = "email",
        /// An affiliate's link.
        Affiliate = "affiliate",
        /// A search engine, without an ad.
        Search = "search",
        /// A social network, without an ad.
        Social = "social",
        /// An answer of an AI assistant.
        Ai = "ai",
        /// A link of another site.
        Referral = "referral",
        /// A link with campaign parameters that fit no other channel.
        Campaign = "campaign",
        /// No link that is known.
        #[default]
        Direct = "direct",
    }
}

words! {
    /// Kind of device, by the user agent.
    pub enum Device {
        /// A phone.
        Phone = "phone",
        /// A tablet.
        Tablet = "tablet",
        /// A computer.
        Computer = "computer",
        /// A program that says so.
        Bot = "bot",
        /// Anything else.
        Unknown = "unknown",
    }
}
