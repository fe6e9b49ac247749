//! Warns about statements of a request that change nothing, or cancel earlier ones.
//! Takes the known facts of its transaction and the facts that it states; returns sentences for the
//! sender.
//! Pure. Every ignored statement has a warning, so that a 200 never hides an ignored correction.

use crate::conversion::payment::{ObjectKind, PayFact, Payment};
use crate::conversion::reported::{Reported, Stated};
use crate::money::{Currency, Money};

/// Returns the sentences for the sender.
pub(super) fn warnings(known: &Payment, stated: &Payment, says_paid: bool) -> Vec<String> {
    let (Some(before), Some(new)) = (&known.reported, &stated.reported) else { return Vec::new() };
    let mut after = known.clone();
    after.absorb(stated.clone());
    let mut warnings = Vec::new();
    warnings.extend(status(known, stated));
    warnings.extend(value(before, new, &after));
    warnings.extend(refunds(before, new, &after));
    if let Some(money) = taken_back(known) {
        if new.paid.is_some() {
            warnings.push(format!("status paid cancels what was recorded before: {money}"));
        } else if says_paid {
            warnings.push(format!(
                "no status: what was recorded before still counts ({money}); send status=paid to cancel it"
            ));
        }
    }
    if let Some(click_id) = &stated.client_reference_id
        && after.client_reference_id.as_ref() != Some(click_id)
    {
        warnings.push("the click ID is not used: the transaction came with another one".to_owned());
    }
    warnings
}

fn pay_fact(payment: &Payment) -> PayFact {
    payment.facts.get(&ObjectKind::Report).map_or(PayFact::Unknown, |facts| facts.pay_fact)
}

/// Warns about a status that is not used: pending and failed count as earlier than paid, whenever
/// they arrive.
fn status(known: &Payment, stated: &Payment) -> Option<String> {
    let word = |fact| match fact {
        PayFact::Unknown => "unknown",
        PayFact::Pending => "pending",
        PayFact::Authorized => "authorized",
        PayFact::Failed => "failed",
        PayFact::Paid => "paid",
    };
    let (before, new) = (pay_fact(known), pay_fact(stated));
    let how = match before {
        PayFact::Paid => "; send status=refunded to record a refund",
        PayFact::Failed | PayFact::Authorized | PayFact::Pending | PayFact::Unknown => "",
    };
    (new != PayFact::Unknown && new < before).then(|| {
        format!("status {} is not used: the sale is {} already{how}", word(new), word(before))
    })
}

fn money(stated: &Stated) -> String {
    let money = Money { minor: stated.minor, currency: stated.currency };
    format!("{} {}", money.decimal(), stated.currency)
}

fn value(before: &Reported, new: &Reported, after: &Payment) -> Option<String> {
    let stated = new.value.as_ref().or(new.bare_value.as_ref())?;
    let counts = after.reported.as_ref()?.amount()?;
    let known = before.amount()?.currency;
    if (counts.minor, counts.currency) == (stated.minor, stated.currency) {
        return None;
    }
    Some(match stated.currency == known {
        true => format!("the value {} is not used with this status", money(stated)),
        false => format!(
            "the value {} is not used: it came without a currency, and the sale is in {known}",
            money(stated)
        ),
    })
}

fn refunds(before: &Reported, new: &Reported, after: &Payment) -> Vec<String> {
    let currency: Option<Currency> = after.amounts().map(|amounts| amounts.currency);
    let mut warnings = Vec::new();
    for refund in new.refunds.values().chain(&new.refunded_total) {
        if let Some(currency) = currency.filter(|currency| *currency != refund.currency) {
            warnings.push(format!(
                "the refund of {} is not counted: the sale is in {currency}",
                money(refund)
            ));
        }
    }
    for (id, refund) in &new.refunds {
        if id.starts_with(UNNAMED_REFUND) && before.refunds.contains_key(id) {
            warnings.push(format!(
                "a refund of {} is recorded already; send refund_id to record another one",
                money(refund)
            ));
        }
    }
    warnings
}

/// Prefix of the key of a refund without an ID.
pub(super) const UNNAMED_REFUND: &str = "amount:";

/// The refunds or dispute that count so far, as text.
fn taken_back(known: &Payment) -> Option<String> {
    let reported = known.reported.as_ref()?;
    reported.taken_back_in_words(
        known.amounts().map(|it| Money { minor: it.total, currency: it.currency }),
    )
}
