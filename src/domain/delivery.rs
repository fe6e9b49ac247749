//! Words of deliveries and their attempts.

use super::{Word, is_text, words};

words! {
    /// State of a delivery.
    pub enum DeliveryState {
        /// It is queued: its next attempt is due now or later.
        Pending = "pending",
        /// The destination accepted it.
        Delivered = "delivered",
        /// It failed, and nothing happens until somebody resends it.
        GivenUp = "given_up",
        /// Its destination is disabled.
        Held = "held",
        /// It is not sent, on purpose.
        Skipped = "skipped",
    }
}

words! {
    /// Why a delivery is not sent, on purpose.
    pub enum SkipReason {
        /// A test-mode payment; the destination gets none.
        TestMode = "test_mode",
        /// The destination does not get this kind of conversion.
        KindOff = "kind_off",
        /// Neither a click ID nor an email: it could only be refused.
        NoIdentity = "no_identity",
        /// It is unmatched; the destination gets only matched ones.
        Unmatched = "unmatched",
        /// Its value is zero, which is no purchase.
        ZeroValue = "zero_value",
        /// Its value is below the destination's minimum amount.
        BelowMinimum = "below_minimum",
        /// The visitor's browser asked for privacy.
        Gpc = "gpc",
        /// No consent of the visitor is known.
        NoConsent = "no_consent",
        /// It came before the destination was added.
        BeforeDestination = "before_destination",
        /// The destination does not get conversions of this site.
        SiteOff = "site_off",
        /// The destination reported it.
        Echo = "echo",
        /// It is older than the destination's maximum age.
        TooOld = "too_old",
    }
}

words! {
    /// Why a delivery failed.
    pub enum FailureReason {
        /// No attempt of the retry schedule was accepted.
        Exhausted = "exhausted",
        /// It was refused, and the same message would be refused again.
        Refused = "refused",
        /// The destination's address is private.
        BlockedAddress = "blocked_address",
        /// The mapping cannot make a message from this conversion.
        MappingError = "mapping_error",
        /// It would have arrived too late.
        Expired = "expired",
        /// The destination was deleted.
        DestinationDeleted = "destination_deleted",
    }
}

/// Why a delivery failed or was skipped: one list for the API and the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeliveryReason {
    /// It failed.
    Failed(FailureReason),
    /// It was skipped.
    Skipped(SkipReason),
}

impl Word for DeliveryReason {
    const ALL: &'static [Self] = &ALL_REASONS;

    fn as_str(self) -> &'static str {
        match self {
            Self::Failed(reason) => reason.as_str(),
            Self::Skipped(reason) => reason.as_str(),
        }
    }
}

is_text!(DeliveryReason);

const FAILURES: usize = FailureReason::ALL.len();

static ALL_REASONS: [DeliveryReason; FAILURES + SkipReason::ALL.len()] = {
    let mut all = [DeliveryReason::Failed(FailureReason::Exhausted); _];
    let mut at = 0;
    while at < all.len() {
        all[at] = if at < FAILURES {
            DeliveryReason::Failed(FailureReason::ALL[at])
        } else {
            DeliveryReason::Skipped(SkipReason::ALL[at - FAILURES])
        };
        at += 1;
    }
    all
};

words! {
    /// How an attempt ended.
    pub enum AttemptOutcome {
        /// The destination accepted it. Whether it matched there, AnyTrack does not say.
        Accepted = "accepted",
        /// The destination may accept it later.
        Retry = "retry",
        /// The destination will never accept it as it is.
        Refused = "refused",
        /// Clickstamp does not send to this address.
        Blocked = "blocked",
    }
}
