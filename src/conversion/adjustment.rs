//! Sums the refunds and disputes of one payment.
//! Takes the facts about each charge, refund and dispute; returns how much was refunded, is in
//! dispute, and was lost.
//! Pure, and independent of the order of events: cumulative facts count by their maximum, single
//! ones by their sum, and a refund that failed is subtracted again.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::payment::{Payment, later};
use crate::money::{Currency, Money, share};

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
    fn whole(&self) -> Option<(i64, Currency)> {
        self.amount.map(|(minor, currency)| (self.captured.unwrap_or(minor), currency))
    }

    /// What was authorized and not captured. Stripe adds it to `amount_refunded` when it is
    /// released; that was not confirmed on a live account.
    fn uncaptured(&self) -> i64 {
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
    fn is_release(&self, charge: Option<&Charge>) -> bool {
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

/// All refunds and disputes of a payment, in minor units of its currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Adjusted {
    /// Refunded.
    pub(crate) refunded: i64,
    /// Withheld by open disputes.
    pub(crate) disputed: i64,
    /// Taken by lost disputes. Together with a refund this may be more than was paid: then the
    /// seller lost money twice.
    pub(crate) lost: i64,
    /// The currency; if the payment's is unknown, that of its refunds or disputes.
    pub(crate) currency: Option<Currency>,
    pub(crate) is_disputed: bool,
    /// True if there is a refund or a dispute, which proves that the payment happened.
    pub(crate) is_any: bool,
}

/// Sums a payment's refunds and disputes.
pub(crate) fn adjusted(payment: &Payment) -> Adjusted {
    let amount = payment.amounts().map(|amounts| (amounts.total, amounts.currency));
    let mut sum =
        Adjusted { currency: amount.map(|(_, currency)| currency), ..Adjusted::default() };
    add_refunds(payment, &mut sum);
    add_disputes(payment, &mut sum);
    if let Some(reported) = &payment.reported {
        let taken = reported.taken_back(amount.map(|(minor, currency)| Money { minor, currency }));
        sum.refunded = taken.refunded;
        sum.disputed = taken.disputed;
        sum.is_disputed = taken.is_disputed;
        sum.currency = taken.currency;
    }
    if let Some((total, _)) = amount {
        sum.lost = sum.lost.min(total);
        sum.disputed = sum.disputed.min(total);
    }
    sum
}

/// Adds what was refunded of each charge.
fn add_refunds(payment: &Payment, sum: &mut Adjusted) {
    if payment.is_released() {
        return; // Nobody paid: Stripe's "refunded" is the end of an authorization here.
    }
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
            sum.refunded +=
                in_currency(payment, charge, given_back, currency, &mut sum.currency).unwrap_or(0);
        }
        sum.is_any |= given_back > 0 || refunds_of(payment, id, charge).next().is_some();
    }
}

/// Adds what disputes hold or took. A dispute whose amount has no currency in common with the
/// payment counts as all that is left of its charge.
fn add_disputes(payment: &Payment, sum: &mut Adjusted) {
    for dispute in payment.disputes.values() {
        let charge = dispute.charge.as_ref().and_then(|id| payment.charges.get(id));
        let known = dispute.amount.and_then(|(minor, currency)| {
            in_currency(payment, charge, minor, Some(currency), &mut sum.currency)
        });
        let minor =
            known.unwrap_or_else(|| left_of(payment, dispute.charge.as_deref(), charge, sum));
        match dispute.state {
            DisputeState::Inquiry | DisputeState::Won => {}
            DisputeState::Open => sum.disputed += minor,
            DisputeState::Lost => sum.lost += minor,
        }
        sum.is_disputed |= matches!(dispute.state, DisputeState::Open | DisputeState::Lost);
        sum.is_any = true;
    }
}

/// What a dispute can still take of its charge, in the payment's currency; of the whole payment if
/// the charge is unknown.
fn left_of(payment: &Payment, id: Option<&str>, charge: Option<&Charge>, sum: &Adjusted) -> i64 {
    let Some(amounts) = payment.amounts() else { return 0 };
    let of_payment = (amounts.total - sum.refunded).max(0);
    let whole = charge.and_then(Charge::whole).filter(|(_, its)| *its == amounts.currency);
    whole.map_or(of_payment, |(whole, _)| {
        (whole - given_back(payment, id, charge).0).clamp(0, of_payment)
    })
}

/// The charge a refund belongs to: the one it names, else the payment's only one.
fn charge_of<'a>(payment: &'a Payment, refund: &'a Refund) -> Option<&'a str> {
    refund.charge.as_deref().or_else(|| match payment.charges.len() {
        1 => payment.charges.keys().next().map(String::as_str),
        _ => None,
    })
}

/// The refunds of a charge, without those that only released an authorization.
fn refunds_of<'a>(
    payment: &'a Payment,
    id: Option<&'a str>,
    charge: Option<&'a Charge>,
) -> impl Iterator<Item = &'a Refund> {
    let refunds = payment.refunds.values();
    refunds.filter(move |it| charge_of(payment, it) == id && !it.is_release(charge))
}

/// Returns max(high − released − failed, sum), up to what was captured. `high` is the charge's
/// cumulative amount, `sum` that of the refunds that did not fail.
fn given_back(
    payment: &Payment,
    id: Option<&str>,
    charge: Option<&Charge>,
) -> (i64, Option<Currency>) {
    let mut currency = charge.and_then(|charge| charge.amount).map(|(_, currency)| currency);
    let (mut standing, mut failed) = (0_i64, 0_i64);
    for refund in refunds_of(payment, id, charge) {
        let Some((minor, its)) = refund.amount else { continue };
        currency = currency.or(Some(its));
        let sum = if refund.has_failed { &mut failed } else { &mut standing };
        *sum = sum.saturating_add(minor);
    }
    let high = charge.map_or(0, |charge| charge.refunded - charge.uncaptured());
    let most = charge.and_then(Charge::whole).map_or(i64::MAX, |(minor, _)| minor);
    ((high - failed).max(standing).clamp(0, most), currency)
}

/// Converts an adjustment to the payment's currency: unchanged if it is the same, else by its share
/// of the charge. `None` if no event stated the whole amount in the other currency.
fn in_currency(
    payment: &Payment,
    charge: Option<&Charge>,
    minor: i64,
    currency: Option<Currency>,
    of_sum: &mut Option<Currency>,
) -> Option<i64> {
    let ours = *of_sum.get_or_insert(match currency {
        Some(currency) => currency,
        None => return Some(minor),
    });
    if currency.is_none_or(|currency| currency == ours) {
        return Some(minor);
    }
    let total = payment.amounts()?.total;
    let presented = payment.presented.map(|presented| (presented.minor, presented.currency));
    let known = [charge.and_then(Charge::whole), presented];
    let (whole, _) = known.into_iter().flatten().find(|(_, its)| Some(*its) == currency)?;
    Some(if minor >= whole { total } else { share(total, minor, whole) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversion::payment::{Amounts, ObjectFacts, ObjectKind, Presented};

    fn code(text: &str) -> Currency {
        Currency::parse(text).unwrap()
    }

    /// A sale of 102.60 USD by one charge, with this cumulative refund.
    fn sale(high: i64) -> Payment {
        let amounts = Amounts::of(crate::money::Money { minor: 10_260, currency: code("usd") });
        let facts = ObjectFacts { amounts: Some(amounts), ..ObjectFacts::default() };
        let amount = Some((10_260, code("usd")));
        let charge = Charge { amount, refunded: high, ..Charge::default() };
        Payment {
            facts: [(ObjectKind::Session, facts)].into(),
            charges: [("ch_1".to_owned(), charge)].into(),
            ..Payment::default()
        }
    }

    fn refund(minor: i64, has_failed: bool) -> Refund {
        let amount = Some((minor, code("usd")));
        Refund { amount, charge: Some("ch_1".to_owned()), has_failed, has_moved_money: true }
    }

    fn with_refunds(high: i64, refunds: &[(&str, Refund)]) -> Payment {
        let refunds = refunds.iter().map(|(id, refund)| ((*id).to_owned(), refund.clone()));
        Payment { refunds: refunds.collect(), ..sale(high) }
    }

    #[test]
    fn the_refunded_amount_is_the_maximum_without_failures_or_the_sum_of_valid_refunds() {
        let (a, b, bad) = (refund(2_600, false), refund(7_660, false), refund(2_600, true));
        let no_charge = Refund { charge: None, ..a.clone() };
        let rows = [
            ("nothing", with_refunds(0, &[]), 0),
            ("the charge alone", with_refunds(2_600, &[]), 2_600),
            ("the refund alone", with_refunds(0, &[("re_1", a.clone())]), 2_600),
            ("the same refund in both", with_refunds(2_600, &[("re_1", a.clone())]), 2_600),
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
            ("failed before the charge stated it", with_refunds(0, &[("re_1", bad)]), 0),
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
        let amount = Some((15_000, code("jpy")));
        let yen = Charge { amount, refunded: 7_500, ..Charge::default() };
        payment.charges.insert("ch_1".to_owned(), yen.clone());
        assert_eq!(adjusted(&payment).refunded, 5_130);
        payment.charges.insert("ch_1".to_owned(), Charge { refunded: 15_000, ..yen });
        assert_eq!(adjusted(&payment).refunded, 10_260, "a full one counts as all");
        payment.charges.insert("ch_1".to_owned(), Charge::default());
        payment.refunds.insert(
            "re_1".to_owned(),
            Refund { amount: Some((1_000, code("jpy"))), ..Refund::default() },
        );
        assert_eq!(adjusted(&payment).refunded, 0, "the whole amount is unknown");
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
            (&[Inquiry, Open], (true, 10_260, 0)),
            (&[Lost, Open], (true, 0, 10_260)),
            (&[Open, Won], (false, 0, 0)),
            (&[Won, Lost, Open], (false, 0, 0)),
            (&[], (false, 0, 0)),
        ];
        for (states, expected) in rows {
            assert_eq!(of(states), expected, "{states:?}");
        }
    }

    #[test]
    fn what_was_never_captured_counts_as_no_refund() {
        let usd = |minor| Some((minor, code("usd")));
        let of = |captured, high, refunds: &[(i64, bool)]| {
            let charge = Charge { amount: usd(10_000), captured, refunded: high };
            let refunds = refunds.iter().enumerate().map(|(at, (minor, has_moved_money))| {
                let charge = Some("ch_1".to_owned());
                let has_moved_money = *has_moved_money;
                let refund =
                    Refund { amount: usd(*minor), charge, has_moved_money, has_failed: false };
                (format!("re_{at}"), refund)
            });
            let payment = Payment {
                charges: [("ch_1".to_owned(), charge)].into(),
                refunds: refunds.collect(),
                ..Payment::default()
            };
            let sum = adjusted(&payment);
            (sum.refunded, sum.is_any)
        };
        let rows = [
            ("released", of(Some(0), 10_000, &[]), (0, false)),
            ("released, with a refund", of(Some(0), 10_000, &[(10_000, false)]), (0, false)),
            ("captured in part", of(Some(6_000), 4_000, &[]), (0, false)),
            ("and given back in part", of(Some(6_000), 5_000, &[(1_000, true)]), (1_000, true)),
            ("known by the charge only", of(Some(6_000), 5_000, &[]), (1_000, true)),
            ("known by the refund only", of(Some(6_000), 0, &[(1_000, true)]), (1_000, true)),
            ("all of it", of(Some(6_000), 10_000, &[]), (6_000, true)),
            ("a release with a refund", of(Some(6_000), 4_000, &[(4_000, false)]), (0, false)),
            (
                "a release with a refund, and a real one",
                of(Some(6_000), 8_000, &[(4_000, false), (4_000, true)]),
                (4_000, true),
            ),
            ("still authorized", of(Some(0), 0, &[]), (0, false)),
            ("more captured than authorized", of(Some(12_000), 1_000, &[]), (1_000, true)),
        ];
        for (name, found, expected) in rows {
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn a_dispute_without_a_common_currency_counts_as_all_that_is_left() {
        let dispute = |currency: &str, state| Dispute {
            state,
            amount: Some((10_800, code(currency))),
            charge: Some("ch_1".to_owned()),
            reason: None,
        };
        let of = |high, dispute: Dispute| {
            let disputes = [("du_1".to_owned(), dispute)].into();
            let sum = adjusted(&Payment { disputes, ..sale(high) });
            (sum.refunded, sum.disputed, sum.lost)
        };
        assert_eq!(of(0, dispute("eur", DisputeState::Lost)), (0, 0, 10_260));
        assert_eq!(of(0, dispute("eur", DisputeState::Open)), (0, 10_260, 0));
        assert_eq!(of(2_600, dispute("eur", DisputeState::Lost)), (2_600, 0, 7_660));
        assert_eq!(
            of(10_260, dispute("usd", DisputeState::Lost)),
            (10_260, 0, 10_260),
            "paid twice"
        );
        let unknown = Dispute { amount: None, ..dispute("usd", DisputeState::Lost) };
        assert_eq!(of(0, unknown), (0, 0, 10_260));
    }

    #[test]
    fn without_its_payment_a_refund_counts_in_its_own_currency() {
        let payment = Payment {
            refunds: [("re_1".to_owned(), refund(500, false))].into(),
            ..Payment::default()
        };
        let sum = adjusted(&payment);
        assert_eq!((sum.refunded, sum.currency), (500, Some(code("usd"))));
    }
}
