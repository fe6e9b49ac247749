//! Words of alerts.

use super::words;

words! {
    /// Kind of problem that an alert is about.
    pub enum AlertKind {
        /// A destination accepts nothing and is only probed.
        Held = "held",
        /// Deliveries failed.
        GivenUp = "given_up",
        /// Deliveries are pending for too long.
        Slow = "slow",
        /// Deliveries are about to expire.
        Expiring = "expiring",
        /// Many attempts fail.
        Failing = "failing",
        /// Events could not be processed.
        EventsFailed = "events_failed",
        /// No Stripe events arrive.
        Silent = "silent",
        /// Much money is unmatched.
        Unmatched = "unmatched",
        /// Several customers paid with one click ID.
        SharedClickId = "shared_click_id",
    }
}

words! {
    /// Phase of an incident.
    pub enum AlertPhase {
        /// It was just seen.
        Raised = "raised",
        /// It goes on.
        Reminder = "reminder",
        /// It is over.
        Resolved = "resolved",
    }
}
