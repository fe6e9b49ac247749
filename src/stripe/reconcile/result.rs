//! The question and the result of a comparison.
//! Takes what was compared; returns counts and sums, every difference, and what was not compared.
//! A result that an older version stored can still be read.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// What to compare.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Key of the source.
    pub source: String,
    /// A connected account; empty for the key's own.
    pub account: String,
    /// From here; seven days ago if `None`.
    pub from: Option<Timestamp>,
    /// Until here, exclusive; ten minutes ago if `None`.
    pub until: Option<Timestamp>,
    /// Fetch what is missing.
    pub repair: bool,
}

/// The result of a comparison.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reconciled {
    /// False for Stripe's test mode, which a test key sees.
    pub livemode: bool,
    /// The first instant compared.
    pub from: Timestamp,
    /// The first instant after it.
    pub until: Timestamp,
    /// One per kind and currency.
    pub totals: Vec<Sums>,
    /// One per day, kind and currency.
    pub days: Vec<Sums>,
    /// How many payments, refunds and disputes differ.
    pub gap: usize,
    /// Each of them, the first hundred in a stored result.
    pub differences: Vec<Difference>,
    /// What was left out, and why.
    #[serde(default = "NotCompared::of_old_results")]
    pub not_compared: Vec<NotCompared>,
    /// Missing payments, refunds and disputes that were fetched.
    #[serde(default)]
    pub repaired: u64,
}

impl Reconciled {
    /// A sentence about what was not compared; empty if everything was.
    pub fn left_out(&self) -> String {
        let parts: Vec<String> = self.not_compared.iter().map(NotCompared::to_string).collect();
        if parts.is_empty() {
            String::new()
        } else {
            format!("Not compared: {}.", parts.join("; "))
        }
    }
}

/// What is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A completed checkout, a paid invoice, or a payment intent without either.
    #[default]
    Payment,
    /// Money that went back to the buyer.
    Refund,
    /// Money that a bank withholds or took.
    Dispute,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Payment => "payment",
            Self::Refund => "refund",
            Self::Dispute => "dispute",
        })
    }
}

impl Kind {
    /// After a count: "2 paid".
    fn counted(self) -> &'static str {
        match self {
            Self::Payment => "paid",
            Self::Refund => "refunded",
            Self::Dispute => "disputed",
        }
    }
}

/// Counts and sums of both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    /// Payments, refunds or disputes.
    #[serde(default)]
    pub kind: Kind,
    /// `2026-09-21` in the site's time zone; empty for all of them.
    pub day: String,
    /// `USD`.
    pub currency: String,
    /// How many Stripe's records have.
    pub stripe_count: u64,
    /// Their sum, as decimal text.
    pub stripe_amount: String,
    /// How many the ledger has.
    pub here_count: u64,
    /// Their sum.
    pub here_amount: String,
    /// How many of these differ.
    pub gap: usize,
}

impl fmt::Display for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Stripe: {} {}, {} {}; here: {}, {}; gap {}",
            self.stripe_count,
            self.kind.counted(),
            self.stripe_amount,
            self.currency,
            self.here_count,
            self.here_amount,
            self.gap
        )
    }
}

/// A payment, refund or dispute that differs between Stripe's records and the ledger.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Difference {
    /// Which of them.
    #[serde(default)]
    pub kind: Kind,
    /// `2026-09-21`.
    pub day: String,
    /// Stripe's ID.
    pub stripe_id: String,
    /// The conversion's ID, if there is one.
    pub conversion_id: Option<String>,
    /// `102.60 USD`; `None` if Stripe's list has none.
    pub stripe: Option<String>,
    /// The same in the ledger; `None` if it is missing.
    pub here: Option<String>,
    /// What to do.
    pub fix: String,
}

/// One of the lists that Stripe's records consist of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Completed Checkout Sessions.
    Checkouts,
    /// Paid invoices.
    Invoices,
    /// Payment intents that have neither.
    PaymentIntents,
    /// Refunds.
    Refunds,
    /// Disputes.
    Disputes,
}

impl Part {
    /// Where Stripe's API lists it.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Checkouts => "/v1/checkout/sessions",
            Self::Invoices => "/v1/invoices",
            Self::PaymentIntents => "/v1/payment_intents",
            Self::Refunds => "/v1/refunds",
            Self::Disputes => "/v1/disputes",
        }
    }

    /// The permission of a restricted key that lets it read the list, as Stripe's dashboard names it.
    pub(super) fn permission(self) -> &'static str {
        match self {
            Self::Checkouts => "Checkout Sessions",
            Self::Invoices => "Invoices",
            Self::PaymentIntents => "PaymentIntents",
            Self::Refunds => "Charges and Refunds",
            Self::Disputes => "Disputes",
        }
    }

    fn plain(self, count: Option<u64>) -> &'static str {
        match (self, count) {
            (Self::Checkouts, _) => "checkouts",
            (Self::Invoices, _) => "invoices",
            (Self::PaymentIntents, _) => "payments without a checkout or an invoice",
            (Self::Refunds, Some(1)) => "refund",
            (Self::Refunds, _) => "refunds",
            (Self::Disputes, Some(1)) => "dispute",
            (Self::Disputes, _) => "disputes",
        }
    }
}

/// What a comparison left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotCompared {
    /// The list.
    pub what: Part,
    /// How many of it; `None` for all.
    #[serde(default)]
    pub count: Option<u64>,
    /// The reason, in plain English.
    pub why: String,
}

impl NotCompared {
    pub(super) fn all(what: Part, why: impl Into<String>) -> Self {
        Self { what, count: None, why: why.into() }
    }

    /// `None` for a count of zero.
    pub(super) fn some(what: Part, count: u64, why: &str) -> Option<Self> {
        (count > 0).then(|| Self { what, count: Some(count), why: why.to_owned() })
    }

    /// What was left out before these parts were compared at all.
    fn of_old_results() -> Vec<Self> {
        let parts = [Part::PaymentIntents, Part::Refunds, Part::Disputes];
        parts.map(|part| Self::all(part, "compared from the next time on")).into()
    }
}

impl fmt::Display for NotCompared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(count) = self.count {
            write!(f, "{count} ")?;
        }
        write!(f, "{} ({})", self.what.plain(self.count), self.why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_older_versions_are_read_and_say_what_they_left_out() {
        let stored = r#"{"livemode":true,"from":1789344000000,"until":1789948800000,"gap":1,"days":[],
            "totals":[{"day":"","currency":"USD","stripe_count":1,"stripe_amount":"1.00","here_count":0,"here_amount":"0.00","gap":1}],
            "differences":[{"day":"2026-09-20","stripe_id":"cs_1","conversion_id":null,"stripe":"1.00 USD","here":null,"fix":"x"}]}"#;
        let found: Reconciled = serde_json::from_str(stored).unwrap();
        assert_eq!(
            (found.totals[0].kind, found.differences[0].kind),
            (Kind::Payment, Kind::Payment)
        );
        assert!(
            found.left_out().contains("; refunds (compared from the next time on); disputes (")
        );
    }

    #[test]
    fn what_was_left_out_is_one_sentence() {
        let not_compared = vec![
            NotCompared::all(Part::Refunds, "the key may not read them"),
            NotCompared::some(Part::Disputes, 1, "its payment is not in the ledger").unwrap(),
        ];
        let nothing = Reconciled {
            livemode: true,
            from: Timestamp::default(),
            until: Timestamp::default(),
            totals: Vec::new(),
            days: Vec::new(),
            gap: 0,
            differences: Vec::new(),
            not_compared: Vec::new(),
            repaired: 0,
        };
        assert_eq!(nothing.left_out(), "");
        assert_eq!(
            Reconciled { not_compared, ..nothing }.left_out(),
            "Not compared: refunds (the key may not read them); 1 dispute (its payment is not in the ledger)."
        );
        assert_eq!(NotCompared::some(Part::Refunds, 0, "x"), None);
    }
}
