//! The facts about a payment's charges, refunds and disputes.
//! Takes the statements of single events; returns the facts that they state together.
//! Pure, and independent of the order of events: see `merge`.

use serde::{Deserialize, Serialize};

use super::merge::later;
use crate::money::Currency;

/// The facts about a charge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Charge {
    /// The authorized amount: minor units and currency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) amount: Option<(i64, Currency)>,
    /// The captured part of it, as far as an event showed; unknown counts as all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) captured: Option<i64>,
    /// The greatest `amount_refunded` of any event. Stripe's field is cumulative, and includes what
    /// was released without being captured.
    pub(crate) refunded: i64,
}

impl Charge {
    /// The amount that the buyer really paid with it.
    pub(super) fn whole(&self) -> Option<(i64, Currency)> {
        self.amount.map(|(minor, currency)| (self.captured.unwrap_or(minor), currency))
    }

    /// What was authorized and not captured. Stripe adds it to `amount_refunded` when it is
    /// released; that was not confirmed on a live account.
    pub(super) fn uncaptured(&self) -> i64 {
        self.amount.zip(self.captured).map_or(0, |((minor, _), captured)| (minor - captured).max(0))
    }

    /// The captured and the authorized amount, if something was captured, but less than authorized.
    pub(super) fn captured_in_part(&self) -> Option<(i64, i64, Currency)> {
        let (authorized, currency) = self.amount?;
        let captured = self.captured.filter(|captured| (1..authorized).contains(captured))?;
        Some((captured, authorized, currency))
    }

    pub(super) fn absorb(&mut self, other: Self) {
        later(&mut self.amount, other.amount);
        later(&mut self.captured, other.captured);
        self.refunded = self.refunded.max(other.refunded);
    }
}

/// The facts about one refund.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Refund {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) amount: Option<(i64, Currency)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) charge: Option<String>,
    /// It failed or was canceled, which is final: the seller has the money again.
    pub(crate) has_failed: bool,
    /// It has a balance transaction. The release of an authorization moves no money, so it has
    /// none.
    pub(crate) has_moved_money: bool,
}

impl Refund {
    pub(super) fn absorb(&mut self, other: Self) {
        later(&mut self.amount, other.amount);
        later(&mut self.charge, other.charge);
        self.has_failed |= other.has_failed;
        self.has_moved_money |= other.has_moved_money;
    }

    /// True if it only releases what was authorized and not captured. It was not confirmed on a
    /// live account whether Stripe creates a refund for that at all. Therefore its amount must be
    /// exactly that, and it must have no balance transaction.
    pub(super) fn is_release(&self, charge: Option<&Charge>) -> bool {
        let Some(charge) = charge else { return false };
        let released = charge.uncaptured();
        charge.captured == Some(0)
            || (released > 0
                && !self.has_moved_money
                && self.amount.is_some_and(|(minor, _)| minor == released))
    }
}

/// The state of a dispute. The highest one counts, because an appeal may turn a lost dispute into a
/// won one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DisputeState {
    /// An inquiry of the bank: no money moves.
    #[default]
    Inquiry,
    /// The money is withheld.
    Open,
    /// The money is gone.
    Lost,
    /// The money came back, or was never taken because the payment had been refunded before.
    Won,
}

/// The facts about one dispute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Dispute {
    pub(crate) state: DisputeState,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) amount: Option<(i64, Currency)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) charge: Option<String>,
    /// The reason: `fraudulent`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

impl Dispute {
    pub(super) fn absorb(&mut self, other: Self) {
        self.state = self.state.max(other.state);
        later(&mut self.amount, other.amount);
        later(&mut self.charge, other.charge);
        later(&mut self.reason, other.reason);
    }
}
