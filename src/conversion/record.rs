//! A payment and its conversion in memory, and what every function of the ledger needs.
//! Takes rows from the table files; `settle` computes the conversion again and writes it back.
//! Contains no rules: only the values that the rules take and return.

use std::sync::Arc;

use anyhow::Result;

use super::join::Match;
use super::payment::{Contract, Payment};
use crate::clock::Timestamp;
use crate::domain::{ConversionKind, ConversionStatus};
use crate::ids::{ClickId, ClickIdKey};
use crate::money::{Currency, Money};
use crate::settings::{Settings, Snapshot};
use crate::store::{Store, Tx};

/// What every function of the ledger needs.
#[derive(Clone, Copy)]
pub(crate) struct Ledger<'a> {
    pub(crate) keys: &'a ClickIdKey,
    pub(crate) settings: &'a Arc<Snapshot>,
    /// Where to read the settings when a transaction begins. `None` uses `settings` throughout,
    /// also when they change meanwhile: a replay into scratch tables needs that.
    pub(crate) later: Option<&'a Settings>,
    pub(crate) now: Timestamp,
}

impl Ledger<'_> {
    /// Begins a transaction for writing conversions and what follows from them. Returns the
    /// settings as of that moment; use them through [`Ledger::with`]. On PostgreSQL, settings can't
    /// be changed until it ends.
    pub(crate) async fn begin(&self, store: &Store) -> Result<(Tx, Arc<Snapshot>)> {
        match self.later {
            Some(settings) => settings.begin(store).await,
            None => Ok((store.begin().await?, self.settings.clone())),
        }
    }

    /// A copy of this ledger with other settings.
    pub(crate) fn with<'b>(&'b self, settings: &'b Arc<Snapshot>) -> Ledger<'b> {
        Ledger { settings, ..*self }
    }
}

/// A payment in memory: its facts, and its conversion as last written.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) id: String,
    pub(super) payment: Payment,
    /// Facts about the payment's subscription.
    pub(super) contract: Contract,
    /// When we first received an event of it.
    pub(super) recorded_at: Timestamp,
    /// `None` while no known fact creates a conversion; a charge or refund alone only completes
    /// one.
    pub(super) line: Option<Line>,
    pub(super) is_stored: bool,
}

/// A conversion to send messages about.
pub(super) struct Sendable<'a> {
    pub(super) record: &'a Record,
    pub(super) line: &'a Line,
    /// Our click ID, if Stripe returned one.
    pub(super) genuine: Option<&'a ClickId>,
}

/// A conversion as its row in `conversions` stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) site_id: String,
    pub(super) source_id: String,
    pub(super) livemode: bool,
    pub(super) kind: ConversionKind,
    pub(super) status: ConversionStatus,
    pub(super) occurred_at: Timestamp,
    pub(super) paid_at: Option<Timestamp>,
    pub(super) amount_minor: Option<i64>,
    pub(super) currency: Option<String>,
    pub(super) refunded_minor: i64,
    pub(super) disputed_minor: i64,
    pub(super) lost_minor: i64,
    pub(super) transaction_id: String,
    pub(super) client_reference_id: Option<String>,
    pub(super) email: Option<String>,
    pub(super) description: Option<String>,
    /// The customer, if this payment may be only the receipt of another payment of theirs.
    pub(super) receipt_customer: Option<String>,
    pub(super) result: Match,
    /// Sends nothing before this time, because the payment's checkout may still arrive.
    pub(super) enqueue_after: Option<Timestamp>,
    pub(super) recorded_at: Timestamp,
}

impl Line {
    /// An amount in the conversion's currency; `None` if no event stated the currency.
    pub(super) fn money(&self, minor: i64) -> Option<Money> {
        let currency = self.currency.as_deref().and_then(Currency::parse)?;
        Some(Money { minor, currency })
    }
}
