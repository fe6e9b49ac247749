//! Says what to do about a difference.
//! Takes what Stripe's records and the ledger have, and the last event about it; returns a sentence. Pure.

use super::comparison::{Arrived, Here};

const REPAIR: &str = "Run `clickstamp reconcile --repair`";

/// Why Stripe's payment differs here, and what to do.
pub(super) fn payment(here: Option<&Here>, arrived: Option<&Arrived>) -> String {
    match here {
        Some(here) if here.is_paid => other_amount(),
        Some(here) => {
            format!("It is {} here: the event that says paid never arrived. {REPAIR}", here.status)
        }
        None => missing(arrived),
    }
}

/// It is counted on both sides, with different amounts.
pub(super) fn other_amount() -> String {
    "The amount is another one here. Run `clickstamp replay`; if that finds nothing, its event is read wrongly".to_owned()
}

/// It is not counted here at all.
pub(super) fn missing(arrived: Option<&Arrived>) -> String {
    let Some(arrived) = arrived else {
        return format!("It never arrived. {REPAIR}, or resend its event in Stripe");
    };
    match arrived.state.as_str() {
        "failed" => format!(
            "It arrived as {} and could not be read: {}. Run it again at /events/{}",
            arrived.event_id,
            arrived.error.as_deref().unwrap_or_default(),
            arrived.id
        ),
        "received" => {
            format!("It arrived as {} and is not processed yet. Wait a moment", arrived.event_id)
        }
        _ => format!(
            "It arrived as {} and made no conversion. Run `clickstamp replay --apply`",
            arrived.event_id
        ),
    }
}

/// It is counted here, and Stripe's list does not have it.
pub(super) fn surplus(what: &str, conversion_id: &str) -> String {
    format!(
        "Stripe lists no such {what} for this key. Is it another account's? Look at /conversions/{conversion_id}"
    )
}

/// The event about its last status never arrived.
pub(super) fn late(at_stripe: &str, here: &str) -> String {
    format!(
        "It is {at_stripe} at Stripe and {here} here: the event about that never arrived. {REPAIR}"
    )
}

/// It has a status here that no later event can change.
pub(super) fn final_here(at_stripe: &str, here: &str) -> String {
    format!(
        "It is {at_stripe} at Stripe, and an earlier event said that it is {here}. Compare its events with Stripe's dashboard"
    )
}

/// It arrived, but its payment's totals do not include it.
pub(super) fn not_counted() -> String {
    "It arrived, but the totals of its payment do not include it. Run `clickstamp replay`; if that finds nothing, its event is read wrongly"
        .to_owned()
}

/// It arrived, but is not connected with its payment.
pub(super) fn not_connected(payment_id: &str) -> String {
    format!(
        "It belongs to {payment_id}, but no event connected the two. {REPAIR}, and select invoice_payment.paid for the endpoint in Stripe"
    )
}

/// A payment intent is counted here beside the invoice that it paid.
pub(super) fn counted_twice(payment_id: &str) -> String {
    format!(
        "It is the same payment as {payment_id} and counted twice, because no event connected the two. {REPAIR}, and select invoice_payment.paid for the endpoint in Stripe"
    )
}
