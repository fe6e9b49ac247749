//! Words of Stripe events and page events.

use super::words;

words! {
    /// State of a stored Stripe event.
    pub enum EventState {
        /// It waits to be processed.
        Received = "received",
        /// It was processed.
        Processed = "processed",
        /// It says nothing that is recorded.
        Ignored = "ignored",
        /// It could not be read.
        Failed = "failed",
        /// It waits until the owner accepts it.
        Held = "held",
    }
}

words! {
    /// Why an event was ignored.
    pub enum IgnoredReason {
        /// Its type says nothing about a payment.
        UnsupportedType = "unsupported_type",
        /// Stripe's test of the connection.
        Ping = "ping",
        /// An invoice over nothing.
        ZeroAmount = "zero_amount",
        /// A thin event whose ordinary event was received.
        CoveredBySnapshot = "covered_by_snapshot",
    }
}

words! {
    /// Why an event is held.
    pub enum HeldReason {
        /// Live money on a webhook endpoint of test mode.
        LiveOnTest = "live_on_test",
        /// It names another account than the webhook endpoint's own.
        OtherAccount = "other_account",
    }
}

words! {
    /// Why a page event does not count.
    pub enum ApartReason {
        /// No visit with its click ID counts.
        NoVisit = "no_visit",
        /// It came from a page of another website.
        OtherWebsite = "other_website",
    }
}

words! {
    /// How an event was received.
    pub enum EventOrigin {
        /// Stripe sent it.
        Webhook = "webhook",
        /// It was missing and fetched from Stripe's list.
        Backfill = "backfill",
        /// It was fetched because a thin event named it.
        Fetched = "fetched",
    }
}
