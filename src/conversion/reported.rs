//! A conversion that is reported from outside Stripe: by an affiliate network, a shop, a Zap.
//! Takes what single requests state; returns the value, refunds and dispute that count, and
//! describes what a request would not change.
//! Pure. Requests are ordered by their arrival and the last statement counts, so processing them in
//! any order gives the same result.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::merge::{Metadata, later, united};
use crate::clock::Timestamp;
use crate::money::{Currency, Money};

/// When a request arrived, and its ID: the order in which corrections apply.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Arrival {
    pub(crate) at: Timestamp,
    pub(crate) request: String,
}

/// An amount of money with the request that stated it. The greatest `Stated` counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Stated {
    /// False if the request reported the sale as pending or failed: such a value does not correct
    /// the value of a paid sale.
    pub(crate) is_final: bool,
    pub(crate) arrival: Arrival,
    pub(crate) minor: i64,
    pub(crate) currency: Currency,
}

impl Stated {
    fn money(&self) -> Money {
        Money { minor: self.minor, currency: self.currency }
    }
}

/// A chargeback, with the disputed amount where the request states one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Chargeback {
    pub(crate) arrival: Arrival,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) amount: Option<(i64, Currency)>,
}

/// The facts about a reported conversion, apart from the times that the sender states.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Reported {
    /// Identifies it within its account: the transaction and the event, or what replaces a missing
    /// transaction.
    pub(crate) key: String,
    /// purchase, lead, or the name of the sender's event.
    pub(crate) kind: String,
    /// As received, else computed from the key.
    pub(crate) transaction_id: String,
    /// A second text that may lead to the visit, used after the click ID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reference: Option<String>,
    /// The last value that was sent with a currency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<Stated>,
    /// The last value without a currency; it is read in the source's currency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bare_value: Option<Stated>,
    /// The last request that explicitly said that the sale is paid: it cancels every refund and
    /// dispute before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) paid: Option<Arrival>,
    /// The last request that said that the whole amount was refunded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refunded: Option<Arrival>,
    /// Partial refunds by their ID, or by their amount if they have none; the last statement about
    /// each.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) refunds: BTreeMap<String, Stated>,
    /// The last stated total of all refunds so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refunded_total: Option<Stated>,
    /// The buyer's bank took the money back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) chargeback: Option<Chargeback>,
    /// Everything else that was sent, as text by name.
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    pub(crate) params: Metadata,
}

/// The sums of a payment's refunds and dispute, in minor units of its currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TakenBack {
    pub(super) refunded: i64,
    pub(super) disputed: i64,
    pub(super) is_disputed: bool,
    /// The payment's currency; if it is unknown, that of a refund or dispute.
    pub(super) currency: Option<Currency>,
}

impl Reported {
    pub(super) fn absorb(&mut self, other: Self) {
        self.key = std::mem::take(&mut self.key).max(other.key);
        self.kind = std::mem::take(&mut self.kind).max(other.kind);
        self.transaction_id = std::mem::take(&mut self.transaction_id).max(other.transaction_id);
        later(&mut self.reference, other.reference);
        later(&mut self.value, other.value);
        later(&mut self.bare_value, other.bare_value);
        later(&mut self.paid, other.paid);
        later(&mut self.refunded, other.refunded);
        for (id, refund) in other.refunds {
            let mine = self.refunds.entry(id).or_insert_with(|| refund.clone());
            if refund > *mine {
                *mine = refund;
            }
        }
        later(&mut self.refunded_total, other.refunded_total);
        later(&mut self.chargeback, other.chargeback);
        united(&mut self.params, other.params);
    }

    /// When the last request arrived that stated anything about the money.
    pub(crate) fn last_arrival(&self) -> Option<Timestamp> {
        let stated = [&self.value, &self.bare_value, &self.refunded_total].into_iter().flatten();
        let stated = stated.chain(self.refunds.values()).map(|it| &it.arrival);
        let said = [&self.paid, &self.refunded].into_iter().flatten();
        let disputed = self.chargeback.iter().map(|it| &it.arrival);
        stated.chain(said).chain(disputed).map(|arrival| arrival.at).max()
    }

    /// The conversion's value. A value without a currency corrects a sale only if it is read in the
    /// same currency.
    pub(crate) fn amount(&self) -> Option<Money> {
        let last = match (&self.value, &self.bare_value) {
            (Some(value), Some(bare)) if bare > value && bare.currency == value.currency => bare,
            (Some(value), _) => value,
            (None, bare) => bare.as_ref()?,
        };
        Some(last.money())
    }

    /// True once a request stated a refund or dispute that counts.
    pub(super) fn is_taken_back(&self) -> bool {
        self.is_refunded() || self.chargeback().is_some() || self.partial_refunds().next().is_some()
    }

    /// True if a request stated that the whole amount was refunded, even if the amount is unknown.
    pub(super) fn is_refunded(&self) -> bool {
        self.refunded.as_ref().is_some_and(|it| self.stands(it))
    }

    /// The refunds and dispute of a sale with this amount.
    pub(super) fn taken_back(&self, amount: Option<Money>) -> TakenBack {
        let first = self.partial_refunds().map(|it| it.currency).next();
        let of_dispute = self.chargeback().and_then(|it| it.amount).map(|(_, currency)| currency);
        let currency = amount.map(|amount| amount.currency).or(first).or(of_dispute);
        let whole = amount.map(|amount| amount.minor.max(0));
        let ours = |it: &&Stated| Some(it.currency) == currency;
        let is_sum = |it: &&Stated| Some(*it) == self.refunded_total.as_ref();
        let (sums, single): (Vec<_>, Vec<_>) =
            self.partial_refunds().filter(ours).partition(is_sum);
        let single = single.iter().fold(0_i64, |sum, it| sum.saturating_add(it.minor));
        let partial = sums.iter().map(|it| it.minor).fold(single, i64::max);
        let refunded = match whole {
            Some(whole) if self.is_refunded() => whole,
            Some(whole) => partial.min(whole),
            None => partial,
        };
        let disputed = self.chargeback().map_or(0, |it| match it.amount {
            Some((minor, its)) if Some(its) == currency => minor,
            Some(_) | None => whole.unwrap_or(0),
        });
        let disputed = whole.map_or(disputed, |whole| disputed.min(whole - refunded));
        let is_disputed = self.chargeback().is_some();
        TakenBack { refunded, disputed, is_disputed, currency }
    }

    /// The refunds or dispute that count, as text for people; `None` if there are none.
    pub(crate) fn taken_back_in_words(&self, amount: Option<Money>) -> Option<String> {
        let taken = self.taken_back(amount);
        let money = |minor| match taken.currency {
            Some(currency) => format!("{} {currency}", Money { minor, currency }.decimal()),
            None => "all of it".to_owned(),
        };
        match (taken.is_disputed, self.is_refunded() || taken.refunded > 0) {
            (true, _) => Some(format!("a dispute of {}", money(taken.disputed))),
            (false, true) => Some(format!("a refund of {}", money(taken.refunded))),
            (false, false) => None,
        }
    }

    /// Refunds that no later request canceled, including the stated total.
    fn partial_refunds(&self) -> impl Iterator<Item = &Stated> {
        let all = self.refunds.values().chain(&self.refunded_total);
        all.filter(|it| it.minor > 0 && self.stands(&it.arrival))
    }

    /// The dispute, unless a later request said that the sale is paid, or fully refunded.
    fn chargeback(&self) -> Option<&Chargeback> {
        let after_refund = |it: &&Chargeback| self.refunded.as_ref() < Some(&it.arrival);
        self.chargeback.as_ref().filter(|it| self.stands(&it.arrival)).filter(after_refund)
    }

    fn stands(&self, arrival: &Arrival) -> bool {
        self.paid.as_ref() < Some(arrival)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd(minor: i64) -> Money {
        Money { minor, currency: Currency::USD }
    }

    fn arrival(at: i64) -> Arrival {
        Arrival { at: Timestamp::from_ms(at), request: format!("crq_{at}") }
    }

    fn stated(at: i64, minor: i64) -> Stated {
        Stated { is_final: true, arrival: arrival(at), minor, currency: Currency::USD }
    }

    fn value(at: i64, minor: i64) -> Reported {
        Reported { value: Some(stated(at, minor)), ..Reported::default() }
    }

    fn refund(at: i64, id: &str, minor: i64) -> Reported {
        Reported { refunds: [(id.to_owned(), stated(at, minor))].into(), ..Reported::default() }
    }

    fn total(at: i64, minor: i64) -> Reported {
        Reported { refunded_total: Some(stated(at, minor)), ..Reported::default() }
    }

    fn refunded(at: i64) -> Reported {
        Reported { refunded: Some(arrival(at)), ..Reported::default() }
    }

    fn paid(at: i64) -> Reported {
        Reported { paid: Some(arrival(at)), ..Reported::default() }
    }

    fn chargeback(at: i64) -> Reported {
        let chargeback = Chargeback { arrival: arrival(at), amount: None };
        Reported { chargeback: Some(chargeback), ..Reported::default() }
    }

    /// The result of these statements, which is checked to be the same in both orders.
    fn outcome(statements: &[Reported]) -> (Option<Money>, i64, i64, bool) {
        let all = |order: &mut dyn Iterator<Item = &Reported>| {
            let mut sum = Reported::default();
            for statement in order {
                sum.absorb(statement.clone());
                sum.absorb(statement.clone());
            }
            sum
        };
        let sum = all(&mut statements.iter());
        assert_eq!(
            sum,
            all(&mut statements.iter().rev()),
            "the order of processing does not matter"
        );
        let taken = sum.taken_back(sum.amount());
        (sum.amount(), taken.refunded, taken.disputed, taken.is_disputed)
    }

    #[test]
    fn the_last_statement_counts_in_whatever_order_requests_are_processed() {
        let sale = || value(1, 10_000);
        let after = |more: Vec<Reported>| [vec![sale()], more].concat();
        let some = |minor| Some(usd(minor));
        let of_sale = |refunded, disputed| (some(10_000), refunded, disputed, disputed > 0);
        let twice = || vec![refund(2, "a", 3_000), refund(3, "a", 3_000), refund(4, "b", 500)];
        let rows = [
            ("a lower value", after(vec![value(2, 9_000)]), (some(9_000), 0, 0, false)),
            ("a refund", after(vec![refund(2, "a", 3_000)]), of_sale(3_000, 0)),
            ("the same refund twice, another one", after(twice()), of_sale(3_500, 0)),
            (
                "a refund corrected",
                after(vec![refund(2, "a", 3_000), refund(3, "a", 1_000)]),
                of_sale(1_000, 0),
            ),
            (
                "a sum and its parts",
                after(vec![refund(2, "a", 3_000), total(3, 5_000)]),
                of_sale(5_000, 0),
            ),
            ("more than all", after(vec![refund(2, "a", 30_000)]), of_sale(10_000, 0)),
            ("all of it", after(vec![refunded(2)]), of_sale(10_000, 0)),
            ("paid again", after(vec![refunded(2), paid(3)]), of_sale(0, 0)),
            ("paid, then refunded", after(vec![paid(2), refunded(3)]), of_sale(10_000, 0)),
            ("a chargeback", after(vec![chargeback(2)]), of_sale(0, 10_000)),
            ("won", after(vec![chargeback(2), paid(3)]), of_sale(0, 0)),
            (
                "a chargeback, then refunded",
                after(vec![chargeback(2), refunded(3)]),
                of_sale(10_000, 0),
            ),
            ("a refund of an unknown sale", vec![refund(2, "a", 300)], (None, 300, 0, false)),
        ];
        for (name, statements, expected) in rows {
            assert_eq!(outcome(&statements), expected, "{name}");
        }
    }

    #[test]
    fn a_currency_is_corrected_only_where_it_is_named() {
        let eur = |at| Stated { currency: Currency::parse("eur").unwrap(), ..stated(at, 9_000) };
        let bare = |it| Reported { bare_value: Some(it), ..Reported::default() };
        let named = |it| Reported { value: Some(it), ..Reported::default() };
        assert_eq!(outcome(&[value(1, 10_000), named(eur(2))]).0, Some(eur(2).money()));
        assert_eq!(outcome(&[value(1, 10_000), bare(eur(2))]).0, Some(usd(10_000)));
        assert_eq!(outcome(&[value(1, 10_000), bare(stated(2, 9_000))]).0, Some(usd(9_000)));
        assert_eq!(outcome(&[bare(eur(1)), value(2, 10_000)]).0, Some(usd(10_000)));
        let pending = Stated { is_final: false, ..stated(3, 5) };
        assert_eq!(outcome(&[value(1, 10_000), named(pending)]).0, Some(usd(10_000)));
    }
}
