//! Queries for the dashboard, the API and alerts. Takes a site, a mode, a period or a filter;
//! returns counts, sums per currency, pages of records, and single records with everything that
//! belongs to them. Guarantees that it writes no table, never adds two currencies, and reads every
//! list along an index.
//!
//! Only paid conversions count in numbers (`paid_at_ms` is set); lists show all. A function that
//! returns a `Result` fails only if the database does.

mod conversions;
mod counted;
mod custom_requests;
mod days;
mod deliveries;
mod filter;
mod health;
mod journey;
mod leaks;
mod links;
mod overview;
mod owing;
mod page;
mod page_events;
mod problems;
mod ranking;
mod sources;
mod stripe_events;
mod summed;
mod tag_signs;
mod visits;
mod vitals;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::clock::Timestamp;
use crate::money::{Currency, Money, Totals};
use crate::store::{Row, Statement, Text, sql};

pub(crate) use conversions::{
    ConversionFilter, ConversionRow, DeliverySummary, Touch, conversion_row, conversions,
};
pub(crate) use custom_requests::{CustomRequest, CustomRequests, custom_request, custom_requests};
pub(crate) use days::{Day, days};
pub(crate) use deliveries::{
    Attempt, Delivery, DeliveryFilter, DeliveryRow, DestinationTotals, deliveries, delivery,
    destination_totals,
};
pub(crate) use filter::{Field, Filter, Known, Rule};
pub(crate) use health::{Health, began_at, health, last_seen};
pub(crate) use journey::{Conversion, TouchVisit, conversion, merged_into};
pub(crate) use leaks::{Leak, Leaks, Undelivered, leaks, undelivered};
pub(crate) use links::{LinkNumbers, links};
pub(crate) use overview::{Overview, OverviewFilter, delivered_rate, leaking, overview, visits_in};
pub(crate) use owing::{Down, down, given_up, past};
pub(crate) use page::{Cursor, Page, Paging};
pub(crate) use page_events::{
    ApartEvent, ApartFilter, ApartSum, FailedPageEvent, apart_events, apart_sums,
    failed_page_events,
};
pub(crate) use problems::{
    AtStake, Example, GaveUp, Matched, SharedPayment, Stakes, Tries, failed_events,
    first_to_expire, gave_up, heard_quarters, last_tries, matched_money, shared_payments, stakes,
    waits_since,
};
pub(crate) use ranking::{Dimension, Ranking, RankingRow, ranking};
pub(crate) use sources::{
    Comparison, Heard, InvoiceEvents, comparisons, invoice_events, last_heard,
};
pub(crate) use stripe_events::{
    EventFilter, Rejection, StripeEvent, StripeEventRow, held_events, rejections, stripe_event,
    stripe_events,
};
pub(crate) use tag_signs::{TagSigns, tag_signs};
pub(crate) use visits::{Visit, VisitFilter, VisitRow, VisitedConversion, visit, visits};
pub(crate) use vitals::{Vitals, vitals};

pub(crate) use crate::domain::QUARTER_MS;

/// Selects the numbers of one site, live or test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    pub(crate) site_id: String,
    /// True counts live payments, false test payments. Visits are the same in both.
    pub(crate) livemode: bool,
}

/// A half-open period: it includes `from` and excludes `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Period {
    /// Its first instant.
    pub(crate) from: Timestamp,
    /// The first instant after it.
    pub(crate) to: Timestamp,
}

impl Period {
    /// The days from `first` to `last`, both included, in a time zone. Days with a clock change are
    /// shorter or longer. `None` if a date is at the end of the calendar.
    pub(crate) fn of_days(first: Date, last: Date, zone: &TimeZone) -> Option<Self> {
        let from = Timestamp::start_of(first, zone)?;
        let to = Timestamp::start_of(last.tomorrow().ok()?, zone)?;
        Some(Self { from, to })
    }

    /// The quarter hours that the period overlaps, as a half-open range.
    pub(crate) fn quarters(self) -> (i64, i64) {
        let first = self.from.as_ms().div_euclid(QUARTER_MS);
        let last = self.to.as_ms().saturating_sub(1).div_euclid(QUARTER_MS);
        (first, last.saturating_add(1))
    }
}

/// A statement with `:site_id` and `:livemode` of the scope, `:from` and `:to` of the period.
fn within(text: impl Into<Text>, scope: &Scope, period: Period) -> Statement {
    sql(text)
        .set("site_id", &scope.site_id)
        .set("livemode", scope.livemode)
        .set("from", period.from)
        .set("to", period.to)
}

/// A part and the whole as counts. The dashboard and the API turn it into a rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Share {
    /// How many of the whole.
    pub(crate) part: i64,
    /// How many there are.
    pub(crate) whole: i64,
}

/// Purchases, trials and leads of all visits; never more than all, because some buyers' visits are
/// not counted.
pub(crate) fn conversion_rate(firsts: i64, visits: i64) -> Share {
    Share { part: firsts.min(visits), whole: visits }
}

impl Share {
    /// The share in ten-thousandths, rounded down, so that 10,000 always means all. `None` if the
    /// whole is zero.
    pub(crate) fn per_ten_thousand(self) -> Option<i64> {
        (self.whole > 0).then(|| self.part.saturating_mul(10_000) / self.whole)
    }

    /// The share in thousandths, rounded down. `None` if the whole is zero.
    pub(crate) fn per_mille(self) -> Option<i64> {
        self.per_ten_thousand().map(|share| share / 10)
    }
}

/// Adds the amount of a row; rows without a currency have no amount.
fn add(totals: &mut Totals, minor: i64, currency: Option<&str>) {
    if let Some(currency) = currency.and_then(Currency::parse) {
        totals.add(Money { minor, currency });
    }
}

/// The amount in a column, in the currency of the row, if both are known.
fn money(row: &Row, column: &str) -> sqlx::Result<Option<Money>> {
    let currency: Option<String> = row.get("currency")?;
    let currency = currency.as_deref().and_then(Currency::parse);
    let minor: Option<i64> = row.get(column)?;
    Ok(minor.zip(currency).map(|(minor, currency)| Money { minor, currency }))
}
