//! What the ledger has of a payment's refunds and disputes.
//! Takes the payment's facts and its conversion; returns whether a refund or dispute is known and counted.
//! Pure.

use super::list::Records;
use super::object::{Dispute, Effect, Refund};
use crate::conversion::adjustment::DisputeState;
use crate::conversion::payment::Payment;
use crate::money::{Currency, Money};

/// A payment in the ledger.
pub(super) struct Ledgered {
    pub(super) facts: Payment,
    /// `None` while nothing is recorded of it but details.
    pub(super) conversion: Option<Totals>,
}

/// Its conversion.
pub(super) struct Totals {
    pub(super) id: String,
    pub(super) source_id: String,
    pub(super) is_paid: bool,
    /// Its owner called it the receipt of another payment.
    pub(super) is_duplicate: bool,
    pub(super) money: Option<Money>,
    pub(super) refunded: i64,
    pub(super) disputed: i64,
    pub(super) lost: i64,
}

/// What the ledger makes of a refund or dispute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// It is not known.
    Missing,
    /// It takes this much.
    Counts(Money),
    /// It is known and takes nothing.
    Nothing,
}

impl Seen {
    pub(super) fn money(self) -> Option<Money> {
        match self {
            Self::Counts(money) => Some(money),
            Self::Missing | Self::Nothing => None,
        }
    }
}

impl Ledgered {
    /// True if it is part of the revenue, and so its refunds and disputes are taken from it.
    pub(super) fn is_counted(&self) -> bool {
        self.conversion.as_ref().is_some_and(|totals| totals.is_paid) && !self.is_duplicate()
    }

    pub(super) fn is_duplicate(&self) -> bool {
        self.conversion.as_ref().is_some_and(|totals| totals.is_duplicate)
    }

    pub(super) fn conversion_id(&self) -> Option<String> {
        self.conversion.as_ref().map(|totals| totals.id.clone())
    }

    /// A refund here, by its own ID or by the sum that its charge had.
    pub(super) fn refund(&self, refund: &Refund, records: &Records) -> Seen {
        self.refund_by_id(&refund.id).unwrap_or_else(|| {
            if self.charge_includes(refund, records) {
                Seen::Counts(refund.money)
            } else {
                Seen::Missing
            }
        })
    }

    /// `None` if no event about the refund itself arrived.
    pub(super) fn refund_by_id(&self, id: &str) -> Option<Seen> {
        let known = self.facts.refunds.get(id)?;
        if known.has_failed {
            return Some(Seen::Nothing);
        }
        Some(known.amount.map_or(Seen::Missing, counts))
    }

    /// True if the last sum of refunds that the charge had includes this refund, of which no event arrived.
    fn charge_includes(&self, refund: &Refund, records: &Records) -> bool {
        let Some(id) = refund.about.charge.as_deref() else { return false };
        let Some(charge) = self.facts.charges.get(id) else { return false };
        let of_charge = || {
            let refunds = self.facts.refunds.iter();
            refunds.filter(|(_, it)| it.charge.as_deref().is_none_or(|its| its == id))
        };
        if refund.has_failed() {
            // Of the sum, what no other refund explains.
            let (whole, captured) = (charge.amount.map(|(minor, _)| minor), charge.captured);
            let released = whole.zip(captured).map_or(0, |(whole, captured)| whole - captured);
            let by_id: i64 = of_charge().filter_map(|(_, it)| Some(it.amount?.0)).sum();
            let others: i64 = records
                .refunds
                .iter()
                .filter(|it| it.about.charge.as_deref() == Some(id) && !it.has_failed())
                .filter(|it| !it.is_release && !self.facts.refunds.contains_key(&it.id))
                .map(|it| it.money.minor)
                .sum();
            return charge.refunded - released.max(0) - by_id - others >= refund.money.minor;
        }
        // A refund that failed may be part of the sum, or may not be any more.
        let has_failures = of_charge().any(|(_, it)| it.has_failed);
        let is_reached = refund.refunded_of_charge.is_some_and(|sum| charge.refunded >= sum);
        is_reached && charge.refunded > 0 && !has_failures
    }

    /// A dispute here.
    pub(super) fn dispute(&self, id: &str) -> (Seen, Effect) {
        let Some(known) = self.facts.disputes.get(id) else { return (Seen::Missing, Effect::None) };
        let effect = match known.state {
            DisputeState::Inquiry | DisputeState::Won => return (Seen::Nothing, Effect::None),
            DisputeState::Open => Effect::Withheld,
            DisputeState::Lost => Effect::Lost,
        };
        (known.amount.map_or(Seen::Missing, counts), effect)
    }

    /// True if a dispute was won here, which no later event changes.
    pub(super) fn is_won(&self, id: &str) -> bool {
        self.facts.disputes.get(id).is_some_and(|known| known.state == DisputeState::Won)
    }

    /// True if the conversion's refunded amount includes a refund.
    pub(super) fn refunds_include(&self, refund: &Refund) -> bool {
        self.takes(refund.money, |totals| totals.refunded)
    }

    /// True if the conversion's disputed or lost amount includes a dispute.
    pub(super) fn disputes_include(&self, dispute: &Dispute, effect: Effect) -> bool {
        let is_refunded = |totals: &Totals| {
            totals.money.is_some_and(|whole| dispute.money.currency != whole.currency)
                && totals.money.is_some_and(|whole| totals.refunded >= whole.minor)
        };
        // In another currency it takes what is left of the payment, and after a full refund that is nothing.
        self.conversion.as_ref().is_some_and(is_refunded)
            || self.takes(dispute.money, |totals| match effect {
                Effect::None => i64::MAX,
                Effect::Withheld => totals.disputed,
                Effect::Lost => totals.lost,
            })
    }

    /// True if a sum of the conversion includes so much, or something of it where the currency is another one.
    fn takes(&self, money: Money, sum: impl Fn(&Totals) -> i64) -> bool {
        let Some(totals) = &self.conversion else { return false };
        let Some(whole) = totals.money else { return true };
        let least = if whole.currency == money.currency { money.minor } else { 1 };
        sum(totals) >= least.min(whole.minor)
    }
}

fn counts((minor, currency): (i64, Currency)) -> Seen {
    Seen::Counts(Money { minor, currency })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversion::adjustment::{self, Charge};
    use crate::stripe::reconcile::object;
    use serde_json::json;

    fn usd(minor: i64) -> Money {
        Money { minor, currency: Currency::parse("usd").unwrap() }
    }

    fn totals(refunded: i64, disputed: i64, lost: i64) -> Totals {
        Totals {
            id: "cnv_1".to_owned(),
            source_id: "src_1".to_owned(),
            is_paid: true,
            is_duplicate: false,
            money: Some(usd(1_000)),
            refunded,
            disputed,
            lost,
        }
    }

    fn refund(minor: i64, status: &str, of_charge: i64) -> Refund {
        let object = json!({"id": "re_1", "created": 5, "amount": minor, "currency": "usd", "status": status,
                            "charge": {"id": "ch_1", "amount_refunded": of_charge}, "balance_transaction": "txn_1"});
        let raw = serde_json::value::RawValue::from_string(object.to_string()).unwrap();
        object::refund(raw).unwrap()
    }

    fn dispute(minor: i64, currency: &str, status: &str) -> Dispute {
        let object = json!({"id": "du_1", "created": 5, "amount": minor, "currency": currency, "status": status});
        let raw = serde_json::value::RawValue::from_string(object.to_string()).unwrap();
        object::dispute(raw).unwrap()
    }

    /// A payment whose charge had such a sum of refunds, and refunds of it with their amounts and whether they failed.
    fn with_charge(sum: i64, refunds: &[(&str, i64, bool)]) -> Ledgered {
        let currency = usd(0).currency;
        let charge = Charge { amount: Some((1_000, currency)), captured: None, refunded: sum };
        let refunds = refunds.iter().map(|(id, minor, has_failed)| {
            let amount = Some((*minor, currency));
            let has_failed = *has_failed;
            let known = adjustment::Refund { amount, has_failed, ..Default::default() };
            ((*id).to_owned(), known)
        });
        let facts = Payment {
            charges: [("ch_1".to_owned(), charge)].into(),
            refunds: refunds.collect(),
            ..Payment::default()
        };
        Ledgered { facts, conversion: Some(totals(0, 0, 0)) }
    }

    #[test]
    fn a_refund_without_an_event_of_its_own_is_part_of_its_charges_sum_or_missing() {
        let (counts, missing) = (Seen::Counts(usd(500)), Seen::Missing);
        let rows = [
            ("reached", with_charge(500, &[]), refund(500, "succeeded", 500), counts),
            ("not reached", with_charge(500, &[]), refund(500, "succeeded", 1_000), missing),
            ("no sum", with_charge(0, &[]), refund(500, "succeeded", 0), missing),
            (
                "another one failed",
                with_charge(500, &[("re_0", 500, true)]),
                refund(500, "succeeded", 500),
                missing,
            ),
            ("failed, in the sum", with_charge(500, &[]), refund(500, "failed", 500), counts),
            (
                "failed, and another one is the sum",
                with_charge(500, &[("re_0", 500, false)]),
                refund(500, "failed", 500),
                missing,
            ),
        ];
        for (name, ledgered, refund, expected) in rows {
            assert_eq!(ledgered.refund(&refund, &Records::default()), expected, "{name}");
        }
    }

    #[test]
    fn the_totals_of_a_conversion_include_a_refund_or_dispute_or_not() {
        let of = |totals| Ledgered { facts: Payment::default(), conversion: Some(totals) };
        let refunded = of(totals(500, 0, 0));
        assert!(refunded.refunds_include(&refund(500, "succeeded", 500)));
        assert!(!refunded.refunds_include(&refund(600, "succeeded", 600)));
        assert!(of(totals(1_000, 0, 0)).refunds_include(&refund(1_200, "succeeded", 1_200)));
        let rows = [
            ("all lost", totals(0, 0, 1_000), dispute(1_000, "usd", "lost"), Effect::Lost, true),
            ("not lost", totals(0, 1_000, 0), dispute(1_000, "usd", "lost"), Effect::Lost, false),
            ("held", totals(0, 1_000, 0), dispute(900, "usd", "open"), Effect::Withheld, true),
            ("converted", totals(0, 0, 1_000), dispute(1_080, "eur", "lost"), Effect::Lost, true),
            ("forgotten", totals(0, 0, 0), dispute(1_080, "eur", "lost"), Effect::Lost, false),
            ("nothing left", totals(1_000, 0, 0), dispute(9, "eur", "lost"), Effect::Lost, true),
        ];
        for (name, totals, dispute, effect, expected) in rows {
            assert_eq!(of(totals).disputes_include(&dispute, effect), expected, "{name}");
        }
    }
}
