//! The money of one payment: paid, refunded and disputed amounts. Takes a conversion and the facts of its payment;
//! returns headings and lines. Pure.

use serde_json::Value;

use super::{Fact, charge_facts};
use crate::dashboard::views::numbers::money;
use crate::domain::ConversionStatus;
use crate::money::{Currency, Money};
use crate::report::ConversionRow;

/// What happened to the payment, with its amount as text.
pub(super) fn heading(status: ConversionStatus, amount: &str, payment: &Value) -> String {
    match status {
        ConversionStatus::Pending => format!("A payment of {amount} is processing"),
        ConversionStatus::Authorized => {
            format!(
                "{amount} is authorized and not captured yet. Capture it in Stripe, or it expires"
            )
        }
        ConversionStatus::Failed if was_authorized(payment) => {
            format!("The authorization of {amount} was released. No money was taken")
        }
        ConversionStatus::Failed => format!("A payment of {amount} failed"),
        ConversionStatus::Paid
        | ConversionStatus::PartiallyRefunded
        | ConversionStatus::Refunded
        | ConversionStatus::Disputed
        | ConversionStatus::Duplicate => format!("Paid {amount}"),
    }
}

/// Whether the payment was authorized first, to be captured later.
fn was_authorized(payment: &Value) -> bool {
    payment["is_manual_capture"] == true || charge_facts(payment)["pay_fact"] == "failed"
}

/// Paid, refunded, lost and net amounts; empty if the amount is unknown.
pub(super) fn amounts(row: &ConversionRow) -> Vec<Fact> {
    let Some(amount) = row.amount else { return Vec::new() };
    let refunded = row.refunded.unwrap_or(Money { minor: 0, ..amount });
    let lost = row.lost.unwrap_or(Money { minor: 0, ..amount });
    let net = Money { minor: amount.minor - refunded.minor - lost.minor, ..amount };
    let name = match row.status {
        ConversionStatus::Authorized => "Authorized",
        ConversionStatus::Pending | ConversionStatus::Failed => "Amount due",
        ConversionStatus::Paid
        | ConversionStatus::PartiallyRefunded
        | ConversionStatus::Refunded
        | ConversionStatus::Disputed
        | ConversionStatus::Duplicate => "Paid",
    };
    let mut facts = vec![Fact::text(name, money(amount)), Fact::text("Refunded", money(refunded))];
    if lost.minor > 0 {
        facts.push(Fact::text("Lost to disputes", money(lost)));
    }
    if name == "Paid" {
        facts.push(Fact::text("Net", money(net)));
    }
    let disputed = row.disputed.filter(|disputed| disputed.minor > 0);
    facts.extend(disputed.map(|disputed| Fact::text("In open disputes", money(disputed))));
    facts
}

/// One line per dispute. Its amount is Stripe's and may be in another currency than the payment.
pub(super) fn disputes(payment: &Value, row: &ConversionRow) -> Vec<Fact> {
    let disputes = payment["disputes"].as_object().into_iter().flatten();
    disputes.map(|(_, dispute)| one_dispute(dispute, row)).collect()
}

fn one_dispute(dispute: &Value, row: &ConversionRow) -> Fact {
    let name = match dispute["state"].as_str() {
        Some("open") => "Open",
        Some("lost") => "Lost",
        Some("won") => "Won or withdrawn",
        _ => "Inquiry",
    };
    let stated = stated(&dispute["amount"]);
    let mut text = stated.map_or_else(|| "an unknown amount".to_owned(), money);
    if let Some(reason) = dispute["reason"].as_str() {
        text.push_str(&format!(", {}", reason.replace('_', " ")));
    }
    let is_other = |amount: Money| stated.is_some_and(|its| its.currency != amount.currency);
    if matches!(name, "Open" | "Lost") && row.amount.is_some_and(is_other) {
        text.push_str(
            ". It is in another currency than the payment; unless the charge has that currency, it counts as the whole rest",
        );
    }
    Fact::text(name, text)
}

fn stated(amount: &Value) -> Option<Money> {
    let currency = Currency::parse(amount[1].as_str()?)?;
    Some(Money { minor: amount[0].as_i64()?, currency })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn headings_say_what_became_of_an_authorization() {
        let released = json!({"is_manual_capture": true});
        let rows = [
            (ConversionStatus::Paid, json!({}), "Paid $5.00"),
            (ConversionStatus::Failed, json!({}), "A payment of $5.00 failed"),
            (
                ConversionStatus::Failed,
                released,
                "The authorization of $5.00 was released. No money was taken",
            ),
        ];
        for (status, payment, expected) in rows {
            assert_eq!(heading(status, "$5.00", &payment), expected);
        }
        assert!(
            heading(ConversionStatus::Authorized, "$5.00", &json!({})).contains("not captured yet")
        );
    }
}
