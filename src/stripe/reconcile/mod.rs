//! Our books against Stripe's: what it calls paid, and what we do.
//! In: a range. Out: counts and sums per day and currency, and every difference with both IDs and what to do about it.
//! Promise: it changes nothing unless told to repair; the two sides are compared payment by payment, so two mistakes cannot hide each other.
//! Source: docs.stripe.com/api/checkout/sessions/list, docs.stripe.com/api/invoices/list.

mod object;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use self::object::{Kind, Paid};
use super::api::{Api, ApiError};
use super::backfill;
use crate::clock::{Clock, Timestamp};
use crate::domain::EventOrigin;
use crate::money::{Currency, Money};
use crate::settings::Source;
use crate::store::Store;

/// What is younger may still be on its way to us.
const TOO_YOUNG: Duration = Duration::from_secs(600);
/// Days of a comparison that does not say.
const DEFAULT_DAYS: i64 = 7;
/// From an object's creation to its last event of payment: a checkout lives a day, an invoice may be paid weeks later.
const PAID_WITHIN: Duration = Duration::from_secs(35 * 86_400);
/// How long a comparison may take; then another replica may take it over.
const LEASE: Duration = Duration::from_secs(60 * 60);
/// Until the next try when Stripe did not answer.
const TRY_AGAIN: Duration = Duration::from_secs(60 * 60);
/// The hour of the night, in the site's time zone, at which the daily comparison is due.
const DUE_HOUR: i8 = 4;
/// Differences kept with the stored result; there may be many, and they tend to have one cause.
const KEPT_DIFFERENCES: usize = 100;
/// What a comparison leaves out; stated wherever its result is shown.
pub const NOT_COMPARED: &str =
    "Not compared: refunds, disputes, and payments without a checkout or an invoice.";

/// What to compare.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Key of the source.
    pub source: String,
    /// A connected account; empty for the key's own.
    pub account: String,
    /// From here; seven days ago if nobody says.
    pub from: Option<Timestamp>,
    /// Until here, without it; ten minutes ago if nobody says.
    pub until: Option<Timestamp>,
    /// Fetch what is missing.
    pub repair: bool,
}

/// The books of both sides.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reconciled {
    /// False for Stripe's test mode, which a test key sees.
    pub livemode: bool,
    /// The first instant compared.
    pub from: Timestamp,
    /// The first instant after it.
    pub until: Timestamp,
    /// One per currency.
    pub totals: Vec<Sums>,
    /// One per day and currency.
    pub days: Vec<Sums>,
    /// How many payments differ.
    pub gap: usize,
    /// Each of them, the first hundred in a stored result.
    pub differences: Vec<Difference>,
    /// Missing payments that were fetched.
    #[serde(default)]
    pub repaired: u64,
}

/// Counts and sums of both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    /// `2026-09-21` in the site's time zone; empty for all of them.
    pub day: String,
    /// `USD`.
    pub currency: String,
    /// Payments in Stripe's books.
    pub stripe_count: u64,
    /// Their sum, as decimal text.
    pub stripe_amount: String,
    /// Payments in ours.
    pub here_count: u64,
    /// Their sum.
    pub here_amount: String,
    /// Payments of these that differ.
    pub gap: usize,
}

/// A payment that the two sides see differently.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Difference {
    /// `2026-09-21`.
    pub day: String,
    /// Stripe's ID.
    pub stripe_id: String,
    /// Ours, if it is here.
    pub conversion_id: Option<String>,
    /// `102.60 USD`; `None` when Stripe's list has none.
    pub stripe: Option<String>,
    /// Likewise here; `None` when it is missing.
    pub here: Option<String>,
    /// What to do.
    pub fix: String,
}

/// Our side of a payment.
struct Here {
    id: String,
    transaction_id: String,
    status: String,
    money: Option<Money>,
    is_paid: bool,
}

/// An event about a payment.
struct Arrived {
    id: String,
    event_id: String,
    state: String,
    error: Option<String>,
}

/// A payment here that Stripe's list may lack.
struct Candidate {
    event: String,
    source_id: String,
    is_invoice: bool,
    here: Here,
}

/// Whose books are compared, and by what.
pub(crate) struct Books<'a> {
    pub(crate) api: Api,
    /// The sources whose payments this account's list should have.
    pub(crate) sources: BTreeSet<String>,
    /// What is missing is recorded under this one of them.
    pub(crate) source: &'a Source,
    pub(crate) clock: &'a Clock,
    /// Days are the site's.
    pub(crate) zone: TimeZone,
}

/// The ledger against Stripe for one source; what is missing is stored as events if wanted.
///
/// # Errors
/// An [`ApiError`] when Stripe gives no answer that helps; nothing was changed then.
pub(crate) async fn run(store: &Store, books: &Books<'_>, wanted: &Wanted) -> Result<Reconciled> {
    let Books { api, sources, source, clock, zone } = books;
    let latest = clock.now().minus(TOO_YOUNG);
    let until = wanted.until.unwrap_or(latest).min(latest);
    let from = wanted.from.unwrap_or_else(|| days_before(latest, zone));
    let account = wanted.account.as_str();
    let paid = paid_at_stripe(api, account, from, until).await?;
    let mut sheet = Sheet { zone, days: BTreeMap::new(), differences: Vec::new() };
    let mut missing = Vec::new();
    let of_sessions: BTreeSet<&String> =
        paid.iter().filter_map(|paid| paid.invoice.as_ref()).collect();
    for paid in &paid {
        let here = table::here(store, account, &paid.id).await?;
        let is_of_session = here.as_ref().is_some_and(|here| here.transaction_id != paid.id);
        if paid.kind == Kind::Invoice && (of_sessions.contains(&paid.id) || is_of_session) {
            continue; // It is its checkout's payment, and counted there.
        }
        if here.as_ref().is_some_and(|here| here.status == "duplicate") {
            continue; // Its owner said that it is the receipt of a payment that is counted.
        }
        let arrived = table::arrived(store, account, &paid.id).await?;
        if sheet.compare(paid, here.as_ref(), arrived.as_ref()) {
            missing.push(paid);
        }
    }
    let listed: BTreeSet<&String> = paid.iter().map(|paid| &paid.id).collect();
    let late = until.plus(PAID_WITHIN);
    for (id, candidate) in table::candidates(store, account, api.is_live(), from, late).await? {
        let is_of_session = candidate.is_invoice && candidate.here.transaction_id != id;
        let is_others = !sources.contains(&candidate.source_id);
        let is_nothing =
            candidate.here.money.is_none_or(|money| candidate.is_invoice && money.minor == 0);
        if listed.contains(&id) || is_of_session || is_others || is_nothing {
            continue;
        }
        let body = table::body(store, &candidate.event).await?;
        if let Some(created) = object::created_in(&body).filter(|at| *at >= from && *at < until) {
            sheet.surplus(&id, created, &candidate.here);
        }
    }
    let mut repaired = 0;
    if wanted.repair {
        for paid in missing {
            repaired += u64::from(repair(store, clock.now(), source, account, paid).await?);
        }
    }
    Ok(sheet.close(api.is_live(), from, until, repaired))
}

/// The start of the day, a week before.
fn days_before(at: Timestamp, zone: &TimeZone) -> Timestamp {
    let week = Duration::from_secs(86_400 * u64::try_from(DEFAULT_DAYS).unwrap_or(7));
    let earlier = at.minus(week);
    local(earlier, zone)
        .and_then(|zoned| zoned.start_of_day().ok())
        .map_or(earlier, |start| Timestamp::from_ms(start.timestamp().as_millisecond()))
}

fn local(at: Timestamp, zone: &TimeZone) -> Option<jiff::ZonedDateTime> {
    let at = jiff::Timestamp::from_millisecond(at.as_ms()).ok()?;
    Some(at.to_zoned_datetime(zone.clone()))
}

/// Reads an item of a list.
type Read = fn(Box<RawValue>) -> Option<Paid>;

async fn paid_at_stripe(
    api: &Api,
    account: &str,
    from: Timestamp,
    until: Timestamp,
) -> Result<Vec<Paid>, ApiError> {
    let lists: [(&str, &str, Read); 2] = [
        ("/v1/checkout/sessions", "complete", object::session),
        ("/v1/invoices", "paid", object::invoice),
    ];
    // Only these contain what was captured, and what was paid in addition to a credit balance.
    let expanded = ["data.payment_intent", "data.invoice"];
    let mut paid = Vec::new();
    for (path, status, read) in lists {
        let mut query = vec![
            ("status", status.to_owned()),
            ("created[gte]", from.as_seconds().to_string()),
            ("created[lt]", until.as_seconds().to_string()),
        ];
        if path == "/v1/checkout/sessions" {
            query.extend(expanded.map(|object| ("expand[]", object.to_owned())));
        }
        let mut pages = api.pages(account, path, &query);
        while let Some(items) = pages.next().await? {
            paid.extend(items.into_iter().filter_map(read));
        }
    }
    Ok(paid)
}

/// Stores a payment of Stripe's as the event that would have told it; one that failed before is put back.
async fn repair(
    store: &Store,
    now: Timestamp,
    source: &Source,
    account: &str,
    paid: &Paid,
) -> Result<bool> {
    let body = backfill::as_event(paid.kind.event(), account, &paid.raw);
    let mut tx = store.begin().await?;
    let body = body.as_bytes();
    let is_new =
        backfill::store_body(&mut tx, now, source, account, EventOrigin::Backfill, body).await?;
    tx.commit().await?;
    Ok(is_new)
}

/// Both sides, while they are added up.
struct Sheet<'a> {
    zone: &'a TimeZone,
    days: BTreeMap<(String, Currency), (Side, Side, usize)>,
    differences: Vec<Difference>,
}

#[derive(Clone, Copy, Default)]
struct Side {
    count: u64,
    minor: i64,
}

impl Side {
    fn add(&mut self, minor: i64) {
        self.count += 1;
        self.minor = self.minor.saturating_add(minor);
    }

    fn amount(self, currency: Currency) -> String {
        Money { minor: self.minor, currency }.decimal()
    }
}

fn shown(money: Money) -> String {
    format!("{} {}", money.decimal(), money.currency)
}

impl Sheet<'_> {
    fn day(&self, at: Timestamp) -> String {
        local(at, self.zone).map(|zoned| zoned.date().to_string()).unwrap_or_default()
    }

    fn line(&mut self, day: &str, currency: Currency) -> &mut (Side, Side, usize) {
        self.days.entry((day.to_owned(), currency)).or_default()
    }

    /// A payment of Stripe's, and ours if there is one. True when fetching it would help.
    fn compare(&mut self, paid: &Paid, here: Option<&Here>, arrived: Option<&Arrived>) -> bool {
        let day = self.day(paid.created);
        self.line(&day, paid.money.currency).0.add(paid.money.minor);
        let counted = here.filter(|here| here.is_paid).and_then(|here| here.money);
        if let Some(money) = counted {
            self.line(&day, money.currency).1.add(money.minor);
        }
        if counted == Some(paid.money) {
            return false;
        }
        let fix = fix(here, arrived);
        self.line(&day, paid.money.currency).2 += 1;
        self.differences.push(Difference {
            day,
            stripe_id: paid.id.clone(),
            conversion_id: here.map(|here| here.id.clone()),
            stripe: Some(shown(paid.money)),
            here: here.map(|here| {
                here.money.map_or_else(
                    || here.status.clone(),
                    |money| {
                        if here.is_paid {
                            shown(money)
                        } else {
                            format!("{}, {}", shown(money), here.status)
                        }
                    },
                )
            }),
            fix,
        });
        here.is_none_or(|here| !here.is_paid)
    }

    /// A payment of ours that Stripe's list lacks.
    fn surplus(&mut self, id: &str, created: Timestamp, here: &Here) {
        let Some(money) = here.money else { return };
        let day = self.day(created);
        let line = self.line(&day, money.currency);
        line.1.add(money.minor);
        line.2 += 1;
        self.differences.push(Difference {
            day,
            stripe_id: id.to_owned(),
            conversion_id: Some(here.id.clone()),
            stripe: None,
            here: Some(shown(money)),
            fix: format!(
                "Stripe lists no such payment for this key. Is it another account's? Look at /conversions/{}",
                here.id
            ),
        });
    }

    fn close(
        mut self,
        livemode: bool,
        from: Timestamp,
        until: Timestamp,
        repaired: u64,
    ) -> Reconciled {
        let mut totals: BTreeMap<Currency, (Side, Side, usize)> = BTreeMap::new();
        for ((_, currency), (stripe, here, gap)) in &self.days {
            let total = totals.entry(*currency).or_default();
            total.0.count += stripe.count;
            total.0.minor = total.0.minor.saturating_add(stripe.minor);
            total.1.count += here.count;
            total.1.minor = total.1.minor.saturating_add(here.minor);
            total.2 += gap;
        }
        let sums = |day: &str, currency: Currency, (stripe, here, gap): (Side, Side, usize)| Sums {
            day: day.to_owned(),
            currency: currency.to_string(),
            stripe_count: stripe.count,
            stripe_amount: stripe.amount(currency),
            here_count: here.count,
            here_amount: here.amount(currency),
            gap,
        };
        self.differences.sort_by(|a, b| (&a.day, &a.stripe_id).cmp(&(&b.day, &b.stripe_id)));
        Reconciled {
            livemode,
            from,
            until,
            totals: totals.into_iter().map(|(currency, total)| sums("", currency, total)).collect(),
            days: self
                .days
                .iter()
                .map(|((day, currency), line)| sums(day, *currency, *line))
                .collect(),
            gap: self.differences.len(),
            differences: self.differences,
            repaired,
        }
    }
}

/// Why Stripe's payment is not the same here, and what to do.
fn fix(here: Option<&Here>, arrived: Option<&Arrived>) -> String {
    match (here, arrived) {
        (Some(here), _) if here.is_paid => {
            "The amount is another one here. Run `clickstamp replay`; if that finds nothing, its event is read wrongly".to_owned()
        }
        (Some(here), _) => format!(
            "It is {} here: the event that says paid never arrived. Run `clickstamp reconcile --repair`",
            here.status
        ),
        (None, None) => "It never arrived. Run `clickstamp reconcile --repair`, or resend its event in Stripe".to_owned(),
        (None, Some(arrived)) => match arrived.state.as_str() {
            "failed" => format!(
                "It arrived as {} and could not be read: {}. Run it again at /events/{}",
                arrived.event_id,
                arrived.error.as_deref().unwrap_or_default(),
                arrived.id
            ),
            "received" => format!("It arrived as {} and is not processed yet. Wait a moment", arrived.event_id),
            _ => format!(
                "It arrived as {} and made no conversion. Run `clickstamp replay --apply`",
                arrived.event_id
            ),
        },
    }
}

/// The daily comparison, when it is due and no other replica does it. True when it was done.
pub(crate) async fn daily(store: &Store, books: &Books<'_>) -> Result<bool> {
    let source = books.source;
    if !table::claim(store, &source.id, "", books.clock.now(), LEASE).await? {
        return Ok(false);
    }
    let wanted = Wanted {
        source: source.key.clone(),
        account: String::new(),
        from: None,
        until: None,
        repair: false,
    };
    let outcome = run(store, books, &wanted).await;
    keep(store, books, outcome).await?;
    Ok(true)
}

/// Keeps the result of a comparison of the usual range, for the dashboard, and says when the next is due.
pub(crate) async fn keep(
    store: &Store,
    books: &Books<'_>,
    outcome: Result<Reconciled>,
) -> Result<()> {
    let Books { source, zone, .. } = books;
    let now = books.clock.now();
    let (kept, due) = match outcome {
        Ok(mut reconciled) => {
            if reconciled.gap > 0 {
                tracing::warn!(
                    source = source.key,
                    gap = reconciled.gap,
                    "Stripe's books differ from ours"
                );
            }
            reconciled.differences.truncate(KEPT_DIFFERENCES);
            let text = serde_json::to_string(&reconciled).context("a result is JSON")?;
            (Ok(text), next_night(now, zone))
        }
        Err(error) => match error.downcast::<ApiError>() {
            Ok(error @ ApiError::NoAnswer(_)) => (Err(error.to_string()), now.plus(TRY_AGAIN)),
            Ok(error) => (Err(error.to_string()), next_night(now, zone)),
            Err(error) => return Err(error),
        },
    };
    if let Err(error) = &kept {
        tracing::warn!(source = source.key, "could not compare with Stripe's books: {error}");
    }
    table::keep(store, &source.id, "", now, due, kept).await
}

/// The next time it is four in the morning there.
fn next_night(now: Timestamp, zone: &TimeZone) -> Timestamp {
    let at_night = |zoned: jiff::ZonedDateTime| {
        zoned.date().at(DUE_HOUR, 0, 0, 0).to_zoned_datetime(zone.clone()).ok()
    };
    let today = local(now, zone);
    let tonight = today.clone().and_then(at_night);
    let next =
        tonight.filter(|night| night.timestamp().as_millisecond() > now.as_ms()).or_else(|| {
            let tomorrow = today?.tomorrow().ok()?;
            at_night(tomorrow)
        });
    next.map_or(now.plus(Duration::from_secs(86_400)), |night| {
        Timestamp::from_ms(night.timestamp().as_millisecond())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_night_follows_the_sites_clock() {
        let zone = TimeZone::get("America/New_York").unwrap();
        let rows = [
            ("2026-09-21T07:59:00Z", "2026-09-21T08:00:00Z"),
            ("2026-09-21T08:00:00Z", "2026-09-22T08:00:00Z"),
            ("2026-10-31T20:00:00Z", "2026-11-01T09:00:00Z"),
        ];
        for (now, expected) in rows {
            let next = next_night(Timestamp::parse(now).unwrap(), &zone);
            assert_eq!(next.to_rfc3339(), expected, "{now}");
        }
    }

    #[test]
    fn a_week_begins_with_a_day() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let at = Timestamp::parse("2026-09-21T14:00:00Z").unwrap();
        assert_eq!(days_before(at, &zone).to_rfc3339(), "2026-09-13T22:00:00Z");
    }
}
