//! Stored visits. Takes a filter and a cursor, or a click ID; returns pages of visits, or a click
//! ID with its visits and conversions. Guarantees that the table is read only along its primary
//! key. Click IDs sort by mint time, so "newest first" is the order of the key.

use anyhow::{Context as _, Result};

use super::filter::{Filter as _, SiteKey, filter};
use super::money;
use super::page::{AFTER_ALL_IDS, Cursor, MAX_LIMIT, Page};
use crate::clock::Timestamp;
use crate::domain::flags::{COOKIELESS, PROVISIONAL};
use crate::domain::{ConversionKind, ConversionStatus};
use crate::ids;
use crate::money::Money;
use crate::store::{Store, from_row, sql};

filter! {
    /// Selects visits; the default lists all but those of bots.
    VisitFilter {
        /// A site's key; by default all sites.
        site_id: SiteKey = "site" where "site_id = :site_id";
        /// The kind of traffic.
        channel: String = "channel" where "channel = :channel";
        /// The campaign's name.
        campaign: String = "campaign" where "campaign = :campaign";
        /// True lists visits of bots, too.
        bots: bool = "bots";
        /// Only visits whose click ID was minted at or after this time.
        from: Timestamp = "from";
        /// Only visits whose click ID was minted before this time.
        to: Timestamp = "to";
    }
}

/// One visit.
#[derive(Clone, Debug)]
pub(crate) struct VisitRow {
    /// `ck_…`.
    pub(crate) click_id: String,
    /// The browser's time; part of the key, not trusted as a time.
    pub(crate) sent_at_ms: i64,
    pub(crate) site_id: String,
    pub(crate) at: Timestamp,
    pub(crate) received_at: Timestamp,
    /// The click ID made by the browser that this one replaces.
    pub(crate) alias: Option<String>,
    /// The click ID before this visit.
    pub(crate) previous_click_id: Option<String>,
    pub(crate) url: Option<String>,
    pub(crate) referrer: Option<String>,
    pub(crate) channel: String,
    /// google, newsletter, …
    pub(crate) source: Option<String>,
    /// cpc, email, …
    pub(crate) medium: Option<String>,
    pub(crate) campaign: Option<String>,
    pub(crate) landing_host: Option<String>,
    pub(crate) landing_path: Option<String>,
    /// phone, tablet, computer, bot, unknown.
    pub(crate) device: String,
    /// Recorded from the request for the tag's script, because the tag's own request did not
    /// arrive.
    pub(crate) is_unreported: bool,
    /// Recorded while the tag stored nothing in the browser.
    pub(crate) is_cookieless: bool,
    /// JSON: ad click IDs, further UTMs, ad cookies, language, browser, tag host.
    pub(crate) details: String,
}

from_row!(VisitRow |row| {
    click_id, sent_at_ms, site_id, at, received_at, alias, previous_click_id, url, referrer, channel,
    source, medium, campaign, landing_host, landing_path, device,
    is_unreported: row.get::<i64>("flags")? & PROVISIONAL != 0,
    is_cookieless: row.get::<i64>("flags")? & COOKIELESS != 0, details,
});

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
    pub(crate) occurred_at: Timestamp,
    /// purchase, renewal, trial, lead, or a custom name.
    pub(crate) kind: ConversionKind,
    pub(crate) status: ConversionStatus,
    pub(crate) amount: Option<Money>,
    pub(crate) livemode: bool,
}

from_row!(VisitedConversion |row| {
    id, occurred_at, kind, status, amount: money(row, "amount_minor")?, livemode,
});

/// The columns of visits that are read.
const COLUMNS: &str =
    "select click_id, sent_at_ms, site_id, at_ms as at, received_at_ms as received_at, alias, previous_click_id, url,
            referrer, channel, source, medium, campaign, landing_host, landing_path, device, flags,
            details
       from visits";

/// A page of visits, newest click ID first; `limit` is held between 1 and 200.
pub(crate) async fn visits(
    store: &Store,
    filter: &VisitFilter,
    after: Option<&Cursor>,
    limit: i64,
) -> Result<Page<VisitRow>> {
    let limit = limit.clamp(1, MAX_LIMIT);
    let earliest = filter.from.map_or_else(String::new, ids::first_click_id);
    let latest = filter.to.map_or_else(|| AFTER_ALL_IDS.to_owned(), ids::first_click_id);
    let list = sql(COLUMNS)
        .then(
            "where click_id >= :earliest and click_id < :latest
            and click_id <= :click_id and (click_id < :click_id or sent_at_ms < :sent_at_ms)
            and flags & 65536 = 0",
        )
        .set("earliest", earliest)
        .set("latest", latest)
        .set("click_id", after.map_or(AFTER_ALL_IDS, |cursor| &cursor.text))
        .set("sent_at_ms", after.map_or(i64::MAX, |cursor| cursor.number));
    let mut list = filter.conditions(list);
    if filter.bots != Some(true) {
        list = list.then("and device <> 'bot'");
    }
    let rows = list
        .then("order by click_id desc, sent_at_ms desc limit :limit")
        .set("limit", limit + 1)
        .all(store.pool())
        .await
        .context("could not list visits")?;
    Ok(Page::cut(rows, limit, |row: &VisitRow| Cursor {
        number: row.sent_at_ms,
        text: row.click_id.clone(),
    }))
}

/// Reads a click ID's visits and conversions. Takes the signed click ID or the browser-made one
/// that it replaces.
pub(crate) async fn visit(store: &Store, click_id_or_alias: &str) -> Result<Option<Visit>> {
    let mut visits = of_click_id(store, click_id_or_alias).await?;
    if visits.is_empty() {
        let signed: Option<(String,)> = sql("select click_id from visits where alias = :click_id_or_alias order by sent_at_ms, click_id limit 1")
        .set("click_id_or_alias", click_id_or_alias)
        .optional(store.pool())
        .await
        .context("could not find a visit by its alias")?;
        let Some((signed,)) = signed else { return Ok(None) };
        visits = of_click_id(store, &signed).await?;
    }
    let Some(click_id) = visits.first().map(|visit| visit.click_id.clone()) else {
        return Ok(None);
    };
    let anytrack_click_ids =
        sql("select anytrack_click_id from visit_notes where click_id = :click_id order by at_ms")
            .set("click_id", &click_id)
            .values(store.pool())
            .await
            .context("could not list AnyTrack's click IDs of a visit")?;
    let conversions = sql(
        "select id, occurred_at_ms as occurred_at, kind, status, amount_minor, currency, livemode
           from conversions
          where click_id = :click_id
          order by occurred_at_ms desc, id desc
          limit 200",
    )
    .set("click_id", &click_id)
    .all(store.pool())
    .await
    .context("could not list a visit's conversions")?;
    Ok(Some(Visit { click_id, visits, anytrack_click_ids, conversions }))
}

/// Maximum number of visits per click ID. A visitor may return for months with the same one; the
/// limit bounds what an attacker who posts thousands can cause.
const MAX_VISITS: i64 = 200;

pub(super) async fn of_click_id(store: &Store, click_id: &str) -> Result<Vec<VisitRow>> {
    sql(COLUMNS)
        .then(
            "where click_id = :click_id and flags & 65536 = 0
             order by sent_at_ms
             limit :max_visits",
        )
        .set("click_id", click_id)
        .set("max_visits", MAX_VISITS)
        .all(store.pool())
        .await
        .context("could not list a click ID's visits")
}
