//! Refunds and disputes of one payment.
//! In: facts per charge, per refund, per dispute. Out: how much was given back, is in dispute, was lost.
//! Promise: cumulative facts are a high-water mark, single ones a sum, and a refund that failed comes off again; order does not matter. Pure.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::payment::{Payment, later};
use crate::money::{Currency, Money, share};

/// What is known of a charge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Charge {
    /// Its whole amount: minor units and currency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) amount: Option<(i64, Currency)>,
    /// The greatest `amount_refunded` any event showed; Stripe's is cumulative.
    pub(crate) refunded: i64,
}

impl Charge {
    pub(super) fn absorb(&mut self, other: Self) {
        later(&mut self.amount, other.amount);
        self.refunded = self.refunded.max(other.refunded);
    }
}

/// What is known of one refund.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Refund {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) amount: Option<(i64, Currency)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) charge: Option<String>,
    /// It failed or was canceled, which is final: the seller has the money again.
    pub(crate) has_failed: bool,
}

impl Refund {
    pub(super) fn absorb(&mut self, other: Self) {
        later(&mut self.amount, other.amount);
        later(&mut self.charge, other.charge);
        self.has_failed |= other.has_failed;
    }
}

/// How far a dispute has come; the highest counts, because an appeal may turn a lost one into a won one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DisputeState {
    /// A question of the bank: no money moves.
    #[default]
    Inquiry,
    /// The money is withheld.
    Open,
    /// The money is gone.
    Lost,
    /// The money came back.
    Won,
}

/// What is known of one dispute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Dispute {
    pub(crate) state: DisputeState,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) amount: Option<(i64, Currency)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) charge: Option<String>,
    /// Why: `fraudulent`, …
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

/// All refunds and disputes of a payment, in minor units of its currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Adjusted {
    /// Given back.
    pub(crate) refunded: i64,
    /// Withheld by open disputes.
    pub(crate) disputed: i64,
    /// Taken by lost disputes.
    pub(crate) lost: i64,
    /// The currency, where only adjustments name one.
    pub(crate) currency: Option<Currency>,
    pub(crate) is_disputed: bool,
}

/// Sums a payment's adjustments.
pub(crate) fn adjusted(payment: &Payment) -> Adjusted {
    let amount = payment.amounts().map(|amounts| (amounts.total, amounts.currency));
    let mut sum =
        Adjusted { currency: amount.map(|(_, currency)| currency), ..Adjusted::default() };
    let ids: BTreeSet<Option<&str>> = payment
        .charges
        .keys()
        .map(|id| Some(id.as_str()))
        .chain(payment.refunds.values().map(|refund| charge_of(payment, refund)))
        .collect();
    for id in ids {
        let charge = id.and_then(|id| payment.charges.get(id));
        let (given_back, currency) = given_back(payment, id, charge);
        if given_back > 0 {
            sum.refunded += in_currency(payment, charge, given_back, currency, &mut sum.currency);
        }
    }
    for dispute in payment.disputes.values() {
        let charge = dispute.charge.as_ref().and_then(|id| payment.charges.get(id));
        let (minor, currency) = match dispute.amount {
            Some((minor, currency)) => (minor, Some(currency)),
            None => (0, None),
        };
        let minor = in_currency(payment, charge, minor, currency, &mut sum.currency);
        match dispute.state {
            DisputeState::Inquiry | DisputeState::Won => {}
            DisputeState::Open => sum.disputed += minor,
            DisputeState::Lost => sum.lost += minor,
        }
        sum.is_disputed |= matches!(dispute.state, DisputeState::Open | DisputeState::Lost);
    }
    if let Some(reported) = &payment.reported {
        let taken = reported.taken_back(amount.map(|(minor, currency)| Money { minor, currency }));
        sum.refunded = taken.refunded;
        sum.disputed = taken.disputed;
        sum.is_disputed = taken.is_disputed;
        sum.currency = taken.currency;
    }
    // What was given back cannot be taken as well.
    if let Some((total, _)) = amount {
        sum.lost = sum.lost.min((total - sum.refunded).max(0));
        sum.disputed = sum.disputed.min((total - sum.refunded - sum.lost).max(0));
    }
    sum
}

/// The charge a refund belongs to: the one it names, else the payment's only one.
fn charge_of<'a>(payment: &'a Payment, refund: &'a Refund) -> Option<&'a str> {
    refund.charge.as_deref().or_else(|| match payment.charges.len() {
        1 => payment.charges.keys().next().map(String::as_str),
        _ => None,
    })
}

/// max(H − F, S), between 0 and the charge's amount: the high-water mark without what failed, or the sum of what stands.
fn given_back(
    payment: &Payment,
    id: Option<&str>,
    charge: Option<&Charge>,
) -> (i64, Option<Currency>) {
    let mut currency = charge.and_then(|charge| charge.amount).map(|(_, currency)| currency);
    let (mut standing, mut failed) = (0_i64, 0_i64);
    for refund in payment.refunds.values().filter(|refund| charge_of(payment, refund) == id) {
        let Some((minor, its)) = refund.amount else { continue };
        currency = currency.or(Some(its));
        let sum = if refund.has_failed { &mut failed } else { &mut standing };
        *sum = sum.saturating_add(minor);
    }
    let high = charge.map_or(0, |charge| charge.refunded);
    let most = charge.and_then(|charge| charge.amount).map_or(i64::MAX, |(minor, _)| minor);
    ((high - failed).max(standing).clamp(0, most), currency)
}

/// An adjustment in the payment's own currency: as it is, or by its share of the charge where Stripe converted.
fn in_currency(
    payment: &Payment,
    charge: Option<&Charge>,
    minor: i64,
    currency: Option<Currency>,
    of_sum: &mut Option<Currency>,
) -> i64 {
    let ours = *of_sum.get_or_insert(match currency {
        Some(currency) => currency,
        None => return minor,
    });
    if currency.is_none_or(|currency| currency == ours) {
        return minor;
    }
    let Some(total) = payment.amounts().map(|amounts| amounts.total) else { return 0 };
    let presented = payment.presented.map(|presented| (presented.minor, presented.currency));
    let known = [charge.and_then(|charge| charge.amount), presented];
    let whole = known.into_iter().flatten().find(|(_, its)| Some(*its) == currency);
    match whole {
        Some((whole, _)) if minor >= whole => total,
        Some((whole, _)) => share(total, minor, whole),
        None => 0, // Nobody said what the whole was in that currency.
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversion::payment::{Amounts, Presented, Teller, Told};

    fn code(text: &str) -> Currency {
        Currency::parse(text).unwrap()
    }

    /// A sale of 102.60 USD by one charge, of which so much was given back by the charge's own word.
    fn sale(high: i64) -> Payment {
        let amounts = Amounts::of(crate::money::Money { minor: 10_260, currency: code("usd") });
        let told = Told { amounts: Some(amounts), ..Told::default() };
        let charge = Charge { amount: Some((10_260, code("usd"))), refunded: high };
        Payment {
            told: [(Teller::Session, told)].into(),
            charges: [("ch_1".to_owned(), charge)].into(),
            ..Payment::default()
        }
    }

    fn refund(minor: i64, has_failed: bool) -> Refund {
        let amount = Some((minor, code("usd")));
        Refund { amount, charge: Some("ch_1".to_owned()), has_failed }
    }

    fn with_refunds(high: i64, refunds: &[(&str, Refund)]) -> Payment {
        let refunds = refunds.iter().map(|(id, refund)| ((*id).to_owned(), refund.clone()));
        Payment { refunds: refunds.collect(), ..sale(high) }
    }

    #[test]
    fn what_was_given_back_is_the_high_mark_without_failures_or_the_sum_of_what_stands() {
        let (a, b, bad) = (refund(2_600, false), refund(7_660, false), refund(2_600, true));
        let no_charge = Refund { charge: None, ..a.clone() };
        let rows = [
            ("nothing", with_refunds(0, &[]), 0),
            ("the charge alone", with_refunds(2_600, &[]), 2_600),
            ("the refund alone", with_refunds(0, &[("re_1", a.clone())]), 2_600),
            ("both tellings of one", with_refunds(2_600, &[("re_1", a.clone())]), 2_600),
            (
                "two partials",
                with_refunds(2_600, &[("re_1", a.clone()), ("re_2", b.clone())]),
                10_260,
            ),
            ("one failed later", with_refunds(2_600, &[("re_1", bad.clone())]), 0),
            (
                "one of two failed",
                with_refunds(10_260, &[("re_1", bad.clone()), ("re_2", b)]),
                7_660,
            ),
            ("failed before the charge told", with_refunds(0, &[("re_1", bad)]), 0),
            ("more than there was", with_refunds(99_999, &[]), 10_260),
            ("no charge named", with_refunds(0, &[("re_1", no_charge)]), 2_600),
        ];
        for (name, payment, expected) in rows {
            assert_eq!(adjusted(&payment).refunded, expected, "{name}");
        }
    }

    #[test]
    fn a_refund_in_another_currency_counts_by_its_share() {
        let mut payment = sale(0);
        let yen = Charge { amount: Some((15_000, code("jpy"))), refunded: 7_500 };
        payment.charges.insert("ch_1".to_owned(), yen.clone());
        assert_eq!(adjusted(&payment).refunded, 5_130);
        payment.charges.insert("ch_1".to_owned(), Charge { refunded: 15_000, ..yen });
        assert_eq!(adjusted(&payment).refunded, 10_260, "a full one counts as all");
        payment.charges.insert("ch_1".to_owned(), Charge::default());
        payment.refunds.insert(
            "re_1".to_owned(),
            Refund { amount: Some((1_000, code("jpy"))), charge: None, has_failed: false },
        );
        assert_eq!(adjusted(&payment).refunded, 0, "nobody said what the whole was");
        payment.presented = Some(Presented { minor: 10_000, currency: code("jpy") });
        assert_eq!(adjusted(&payment).refunded, 1_026);
    }

    #[test]
    fn disputes_hold_or_take_money_by_their_highest_state() {
        let of = |states: &[DisputeState]| {
            let mut dispute = Dispute::default();
            for state in states {
                dispute.absorb(Dispute {
                    state: *state,
                    amount: Some((10_260, code("usd"))),
                    charge: Some("ch_1".to_owned()),
                    reason: None,
                });
            }
            let sum = adjusted(&Payment {
                disputes: [("du_1".to_owned(), dispute)].into(),
                ..sale(2_600)
            });
            (sum.is_disputed, sum.disputed, sum.lost)
        };
        use DisputeState::{Inquiry, Lost, Open, Won};
        let rows: [(&[DisputeState], _); 6] = [
            (&[Inquiry], (false, 0, 0)),
            (&[Inquiry, Open], (true, 7_660, 0)),
            (&[Lost, Open], (true, 0, 7_660)),
            (&[Open, Won], (false, 0, 0)),
            (&[Won, Lost, Open], (false, 0, 0)),
            (&[], (false, 0, 0)),
        ];
        for (states, expected) in rows {
            assert_eq!(of(states), expected, "{states:?}");
        }
    }

    #[test]
    fn without_its_payment_an_adjustment_knows_only_its_own_money() {
        let payment = Payment {
            refunds: [("re_1".to_owned(), refund(500, false))].into(),
            ..Payment::default()
        };
        let sum = adjusted(&payment);
        assert_eq!((sum.refunded, sum.currency), (500, Some(code("usd"))));
    }
}
