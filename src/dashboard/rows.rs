//! One conversion as a table row, on the overview and in the list. Takes a conversion from `report`; returns text and
//! chips. Pure.

use super::frame::Viewer;
use super::views::times::Moment;
use super::views::{Chip, numbers, words};
use crate::domain::ConversionKind;
use crate::report::ConversionRow;

/// A row of a list of conversions.
pub(super) struct ConversionItem {
    pub(super) href: String,
    pub(super) at: Moment,
    pub(super) amount: String,
    pub(super) is_test: bool,
    /// Below the amount: `refunded`.
    pub(super) note: String,
    pub(super) campaign: String,
    /// Below the campaign: `google / cpc`.
    pub(super) origin: String,
    pub(super) matched: Chip,
    pub(super) deliveries: Vec<Chip>,
    pub(super) bought: String,
    pub(super) email: String,
}

/// Builds the row of a conversion. Times have no day, because day headings separate the rows.
pub(super) fn conversion_item(viewer: &Viewer, row: &ConversionRow) -> ConversionItem {
    let (campaign, origin) = match row.last_touch() {
        None => (numbers::NONE.to_owned(), String::new()),
        Some(touch) => (
            touch.campaign.clone().unwrap_or_else(|| "No campaign".to_owned()),
            words::origin(touch.source.as_deref(), touch.medium.as_deref(), &touch.channel),
        ),
    };
    let mut bought = row.description.clone().unwrap_or_default();
    if bought.is_empty() {
        bought = words::kind(&row.kind);
    } else if row.kind == ConversionKind::Renewal {
        bought.push_str(", renewal");
    }
    if let Some(source) = &row.reported_by {
        bought.push_str(&format!(", reported by {source}"));
    }
    let mut note = words::status_note(row.status).to_owned();
    if row.may_repeat.is_some() && row.paid_at.is_some() {
        note = "possible duplicate (receipt)".to_owned();
    }
    let chip = |delivery| words::delivery_chip(delivery, &viewer.times, viewer.now);
    ConversionItem {
        href: viewer.link(&format!("/conversions/{}", row.id)).to_string(),
        at: viewer.times.minute(row.occurred_at),
        amount: row.amount.map_or_else(|| numbers::NONE.to_owned(), numbers::money),
        is_test: !row.livemode,
        note,
        campaign,
        origin,
        matched: words::match_chip(row),
        deliveries: row.deliveries.iter().map(chip).collect(),
        bought,
        email: row.email.clone().unwrap_or_default(),
    }
}
