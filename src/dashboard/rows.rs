//! The cells of a conversion in tables, on the overview and in the list. Takes a conversion from `report`; returns text.
//! Pure.

use super::views::{numbers, words};
use crate::domain::ConversionKind;
use crate::report::ConversionRow;

/// The campaign that gets the credit.
pub(super) fn campaign(row: &ConversionRow) -> &str {
    row.last_touch()
        .map_or(numbers::NONE, |touch| touch.campaign.as_deref().unwrap_or("No campaign"))
}

/// `google / cpc`; empty if it is not matched.
pub(super) fn origin(row: &ConversionRow) -> String {
    row.last_touch().map_or_else(String::new, |touch| {
        words::origin(touch.source.as_deref(), touch.medium.as_deref(), &touch.channel)
    })
}

/// What was bought, or the kind of the conversion; and who reported it, if that was not Stripe.
pub(super) fn bought(row: &ConversionRow) -> String {
    let description = row.description.as_deref().filter(|text| !text.is_empty());
    let mut bought = description.map_or_else(|| words::kind(&row.kind), str::to_owned);
    if description.is_some() && row.kind == ConversionKind::Renewal {
        bought.push_str(", renewal");
    }
    if let Some(source) = &row.reported_by {
        bought.push_str(&format!(", reported by {source}"));
    }
    bought
}

/// Below the amount: `refunded`.
pub(super) fn note(row: &ConversionRow) -> &'static str {
    if row.may_repeat.is_some() && row.paid_at.is_some() {
        "possible duplicate (receipt)"
    } else {
        words::status_note(row.status)
    }
}
