//! Stored visits. Takes a filter and a cursor, or a click ID; returns pages of visits, or a click
//! ID with its visits and conversions. Guarantees that the table is read only along its primary
//! key. Click IDs sort by mint time, so "newest first" is the order of the key.

use anyhow::{Context as _, Result};
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::page::{AFTER_ALL_IDS, Cursor, MAX_LIMIT, Page};
use super::{Period, money};
use crate::clock::Timestamp;
use crate::ids;
use crate::money::Money;
use crate::store::Store;

/// Bit of `visits.flags`; the same as in `visit::flags`.
const PROVISIONAL: i64 = 8192;

/// Selects visits. The default selects all but bots.
#[derive(Clone, Debug, Default)]
pub(crate) struct VisitFilter {
    /// `site_…`.
    pub(crate) site_id: Option<String>,
    /// Only visits whose click ID was minted in this period.
    pub(crate) period: Option<Period>,
    /// Kind of traffic.
    pub(crate) channel: Option<String>,
    /// The campaign's name.
    pub(crate) campaign: Option<String>,
    /// True lists visits of bots too.
    pub(crate) with_bots: bool,
}

/// One visit.
#[derive(Clone, Debug)]
pub(crate) struct VisitRow {
    /// `ck_…`.
    pub(crate) click_id: String,
    /// The browser's time; part of the key, not trusted as a time.
    pub(crate) sent_at_ms: i64,
    /// `site_…`.
    pub(crate) site_id: String,
    /// When the visit happened.
    pub(crate) at: Timestamp,
    /// When it was received.
    pub(crate) received_at: Timestamp,
    /// The click ID made by the browser that this one replaces.
    pub(crate) alias: Option<String>,
    /// The click ID before this visit.
    pub(crate) previous_click_id: Option<String>,
    /// The page's address.
    pub(crate) url: Option<String>,
    /// Where the visitor came from.
    pub(crate) referrer: Option<String>,
    /// Kind of traffic.
    pub(crate) channel: String,
    /// google, newsletter, …
    pub(crate) source: Option<String>,
    /// cpc, email, …
    pub(crate) medium: Option<String>,
    /// The campaign's name.
    pub(crate) campaign: Option<String>,
    /// The page's host.
    pub(crate) landing_host: Option<String>,
    /// The page's path.
    pub(crate) landing_path: Option<String>,
    /// phone, tablet, computer, bot, unknown.
    pub(crate) device: String,
    /// Recorded from the request for the tag's script, because the tag's own request did not
    /// arrive.
    pub(crate) is_unreported: bool,
    /// JSON: ad click IDs, further UTMs, ad cookies, language, browser, tag host.
    pub(crate) details: String,
}

/// A click ID with everything stored about it.
#[derive(Clone, Debug)]
pub(crate) struct Visit {
    /// The signed click ID, also if the browser-made one was requested.
    pub(crate) click_id: String,
    /// Its visits, oldest first; at least one.
    pub(crate) visits: Vec<VisitRow>,
    /// AnyTrack click IDs that the tag captured with it.
    pub(crate) anytrack_click_ids: Vec<String>,
    /// Its conversions, newest first; at most 200.
    pub(crate) conversions: Vec<VisitedConversion>,
}

/// A conversion of a visit.
#[derive(Clone, Debug)]
pub(crate) struct VisitedConversion {
    /// `cnv_…`.
    pub(crate) id: String,
    /// When it happened.
    pub(crate) occurred_at: Timestamp,
    /// purchase, renewal, trial, lead, or a custom name.
    pub(crate) kind: String,
    /// pending, authorized, paid, failed, partially_refunded, refunded, disputed, duplicate.
    pub(crate) status: String,
    /// What was paid.
    pub(crate) amount: Option<Money>,
    /// Live or test.
    pub(crate) livemode: bool,
}

/// A page of visits, newest click ID first; `limit` is held between 1 and 200.
///
/// # Errors
/// If the database fails.
pub(crate) async fn visits(
    store: &Store,
    filter: &VisitFilter,
    after: Option<&Cursor>,
    limit: i64,
) -> Result<Page<VisitRow>> {
    let limit = limit.clamp(1, MAX_LIMIT);
    let earliest = filter.period.map_or(String::new(), |period| ids::first_click_id(period.from));
    let latest =
        filter.period.map_or(AFTER_ALL_IDS.to_owned(), |period| ids::first_click_id(period.to));
    let rows = sqlx::query(
        "select click_id, sent_at_ms, site_id, at_ms, received_at_ms, alias, previous_click_id, url, referrer,
                channel, source, medium, campaign, landing_host, landing_path, device, flags, details
           from visits
          where click_id >= $1 and click_id < $2
            and click_id <= $3 and (click_id < $3 or sent_at_ms < $4)
            and (cast($5 as text) is null or site_id = $5)
            and (cast($6 as text) is null or channel = $6)
            and (cast($7 as text) is null or campaign = $7)
            and ($8 = 1 or device <> 'bot')
          order by click_id desc, sent_at_ms desc
          limit $9",
    )
    .bind(earliest)
    .bind(latest)
    .bind(after.map_or(AFTER_ALL_IDS, |cursor| &cursor.text))
    .bind(after.map_or(i64::MAX, |cursor| cursor.number))
    .bind(filter.site_id.as_deref())
    .bind(filter.channel.as_deref())
    .bind(filter.campaign.as_deref())
    .bind(i64::from(filter.with_bots))
    .bind(limit + 1)
    .fetch_all(store.pool())
    .await
    .context("could not list visits")?;
    let rows = rows.iter().map(read_visit).collect::<Result<_>>()?;
    Ok(Page::cut(rows, limit, |row: &VisitRow| Cursor {
        number: row.sent_at_ms,
        text: row.click_id.clone(),
    }))
}

/// Reads a click ID's visits and conversions. Takes the signed click ID or the browser-made one
/// that it replaces.
///
/// # Errors
/// If the database fails.
pub(crate) async fn visit(store: &Store, click_id_or_alias: &str) -> Result<Option<Visit>> {
    let mut visits = of_click_id(store, click_id_or_alias).await?;
    if visits.is_empty() {
        let signed: Option<(String,)> = sqlx::query_as(
            "select click_id from visits where alias = $1 order by sent_at_ms, click_id limit 1",
        )
        .bind(click_id_or_alias)
        .fetch_optional(store.pool())
        .await
        .context("could not find a visit by its alias")?;
        let Some((signed,)) = signed else { return Ok(None) };
        visits = of_click_id(store, &signed).await?;
    }
    let Some(click_id) = visits.first().map(|visit| visit.click_id.clone()) else {
        return Ok(None);
    };
    let notes: Vec<(String,)> = sqlx::query_as(
        "select anytrack_click_id from visit_notes where click_id = $1 order by at_ms",
    )
    .bind(&click_id)
    .fetch_all(store.pool())
    .await
    .context("could not list AnyTrack's click IDs of a visit")?;
    let conversions = sqlx::query(
        "select id, occurred_at_ms, kind, status, amount_minor, currency, livemode
           from conversions
          where click_id = $1
          order by occurred_at_ms desc, id desc
          limit 200",
    )
    .bind(&click_id)
    .fetch_all(store.pool())
    .await
    .context("could not list a visit's conversions")?;
    Ok(Some(Visit {
        click_id,
        visits,
        anytrack_click_ids: notes.into_iter().map(|(id,)| id).collect(),
        conversions: conversions.iter().map(read_visited).collect::<Result<_>>()?,
    }))
}

/// Maximum number of visits per click ID. A visitor may return for months with the same one; the
/// limit bounds what an attacker who posts thousands can cause.
const MAX_VISITS: i64 = 200;

pub(super) async fn of_click_id(store: &Store, click_id: &str) -> Result<Vec<VisitRow>> {
    let rows = sqlx::query(
        "select click_id, sent_at_ms, site_id, at_ms, received_at_ms, alias, previous_click_id, url, referrer,
                channel, source, medium, campaign, landing_host, landing_path, device, flags, details
           from visits
          where click_id = $1
          order by sent_at_ms
          limit $2",
    )
    .bind(click_id)
    .bind(MAX_VISITS)
    .fetch_all(store.pool())
    .await
    .context("could not list a click ID's visits")?;
    rows.iter().map(read_visit).collect()
}

fn read_visit(row: &AnyRow) -> Result<VisitRow> {
    Ok(VisitRow {
        click_id: row.try_get("click_id")?,
        sent_at_ms: row.try_get("sent_at_ms")?,
        site_id: row.try_get("site_id")?,
        at: Timestamp::from_ms(row.try_get("at_ms")?),
        received_at: Timestamp::from_ms(row.try_get("received_at_ms")?),
        alias: row.try_get("alias")?,
        previous_click_id: row.try_get("previous_click_id")?,
        url: row.try_get("url")?,
        referrer: row.try_get("referrer")?,
        channel: row.try_get("channel")?,
        source: row.try_get("source")?,
        medium: row.try_get("medium")?,
        campaign: row.try_get("campaign")?,
        landing_host: row.try_get("landing_host")?,
        landing_path: row.try_get("landing_path")?,
        device: row.try_get("device")?,
        is_unreported: row.try_get::<i64, _>("flags")? & PROVISIONAL != 0,
        details: row.try_get("details")?,
    })
}

fn read_visited(row: &AnyRow) -> Result<VisitedConversion> {
    let currency: Option<String> = row.try_get("currency")?;
    Ok(VisitedConversion {
        id: row.try_get("id")?,
        occurred_at: Timestamp::from_ms(row.try_get("occurred_at_ms")?),
        kind: row.try_get("kind")?,
        status: row.try_get("status")?,
        amount: money(row.try_get("amount_minor")?, currency.as_deref()),
        livemode: row.try_get::<i64, _>("livemode")? == 1,
    })
}
