//! Visits: a page was opened, by whom we do not know, from where we do.
//! In: what the tag sent. Out: a durable row; later, for the join, the visit of a click ID and the touches before it.
//! Promise: `record` returns only after the commit, and a repeat records nothing new.

mod agent;
mod body;
pub(crate) mod endpoint;
mod fold;
mod landing;
mod limit;
mod provisional;
mod table;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;

pub(crate) use fold::fold;
pub(crate) use landing::names_ad_click;
pub(crate) use limit::VisitLimit;
pub(crate) use provisional::Landings;
pub(crate) use table::{COUNTS, VISITS};

use crate::clock::Timestamp;
use crate::hosts;
use crate::ids::{ClickId, ClickIdKey};
use crate::settings::Site;
use crate::store::{AnyConnection, Inserted, Store};

/// Most touches kept of one visitor's way.
const MAX_TOUCHES: usize = 30;
/// A mint time is believed as the visit's time only when the body arrives within this many days.
const MAX_MINT_AGE_DAYS: u64 = 7;

/// Bits of `visits.flags`. The first three are the tag's own (`TAG` body key `f`).
pub(crate) mod flags {
    /// `navigator.webdriver` was set.
    pub(crate) const AUTOMATED: i64 = 1;
    /// Global Privacy Control was set.
    pub(crate) const GPC: i64 = 2;
    /// The click ID was adopted from a linked domain.
    pub(crate) const ADOPTED: i64 = 4;
    /// The tag had to wait until the page, or its consent tool, told it that the visitor agreed.
    pub(crate) const AGREED: i64 = 8;
    /// The presented click ID had a wrong MAC; the visit has another one.
    pub(crate) const FORGED: i64 = 256;
    /// The presented click ID was minted for another site; the visit has another one.
    pub(crate) const FOREIGN_SITE: i64 = 512;
    /// The page's host is none of the site's domains: stored, not counted.
    pub(crate) const UNKNOWN_HOST: i64 = 1024;
    /// The click ID was made in the browser, because its copy of the tag was stale.
    pub(crate) const CLIENT_MADE: i64 = 2048;
    /// The click ID was made in the browser, because the page has the static variant of the tag.
    pub(crate) const FIXED_TAG: i64 = 4096;
    /// Known only from the request for the tag's script; its report has not arrived.
    pub(crate) const PROVISIONAL: i64 = 8192;
    /// AnyTrack may be told of it by the server: the site wants that, the visitor does not mind, and AnyTrack's own tag has not met him.
    pub(crate) const FOR_ANYTRACK: i64 = 16384;
}

/// What the request around the body says.
pub(crate) struct Around {
    pub(crate) address: IpAddr,
    pub(crate) user_agent: String,
    /// First entry of `Accept-Language`, such as `de-AT`.
    pub(crate) language: Option<String>,
    /// `Sec-GPC: 1`.
    pub(crate) wants_privacy: bool,
    /// `Sec-Fetch-Site`: same-origin, same-site, cross-site.
    pub(crate) tag_host: Option<String>,
    /// It came from the static variant of the tag.
    pub(crate) has_fixed_tag: bool,
    /// It came from a tag that waits until the visitor agreed.
    pub(crate) has_agreed: bool,
    /// The browser's whole name is kept: a destination is told of visits with it.
    pub(crate) keeps_user_agent: bool,
    /// The page has a path that reports know a redirect link by, and is none.
    pub(crate) is_at_link: bool,
}

/// What became of a visit.
#[derive(Debug)]
pub(crate) struct Recorded {
    /// The signed click ID it stands under: the presented one if that was genuine.
    pub(crate) click_id: ClickId,
    /// False for a repeat.
    pub(crate) is_new: bool,
}

/// Makes a visit durable.
pub(crate) async fn record(
    store: &Store,
    keys: &ClickIdKey,
    now: Timestamp,
    site: &Site,
    sent: &body::Sent<'_>,
    seen: &body::Seen<'_>,
    around: &Around,
) -> Result<Recorded> {
    let presented = &sent.click_id;
    let (click_id, minted_at, flag) = if presented.is_client_made() {
        let known = table::signed_for(store, presented).await?;
        let flag = if around.has_fixed_tag { flags::FIXED_TAG } else { flags::CLIENT_MADE };
        (known.unwrap_or_else(|| keys.mint(now, site.number)), None, flag)
    } else {
        match keys.read(presented) {
            Some(minted) if minted.site_number == site.number => {
                (presented.clone(), Some(minted.at), 0)
            }
            Some(_) => (keys.mint(now, site.number), None, flags::FOREIGN_SITE),
            None => (keys.mint(now, site.number), None, flags::FORGED),
        }
    };
    let is_first = seen.previous.as_ref() != Some(presented);
    let is_fresh =
        |at: &Timestamp| now.since(*at).as_secs() <= MAX_MINT_AGE_DAYS * 86_400 && *at <= now;
    let at = minted_at.filter(|at| is_first && is_fresh(at)).unwrap_or(now);
    let alias = (flag != 0).then(|| presented.clone());
    let row = table::NewVisit {
        click_id: &click_id,
        alias: alias.as_ref(),
        at,
        received_at: now,
        flag,
        site,
        sent,
        seen,
        around,
    };
    let inserted = store.insert(row.into_row(keys)).await?;
    if is_first && minted_at.is_some_and(|at| now.since(at) >= provisional::REPORT_DUE) {
        table::replace_provisional(store, &click_id).await?;
    }
    if inserted == Inserted::Duplicate
        && let Some(alias) = &alias
    {
        // The same body came twice at once: both answers name the ID that won.
        let known = table::signed_for(store, alias).await?;
        return Ok(Recorded { click_id: known.unwrap_or(click_id), is_new: false });
    }
    Ok(Recorded { click_id, is_new: inserted == Inserted::New })
}

/// A click on a redirect link, as its door read it.
pub(crate) struct Click {
    /// The one it goes on with, or a fresh one.
    pub(crate) click_id: ClickId,
    /// The click ID before it.
    pub(crate) previous: Option<ClickId>,
    /// It was handed over by a linked page.
    pub(crate) is_adopted: bool,
    /// The link's.
    pub(crate) alias: String,
    /// The link's own address, with its query.
    pub(crate) url: String,
    pub(crate) referrer: Option<String>,
}

/// Makes the visit of a click on a redirect link durable.
pub(crate) async fn record_click(
    store: &Store,
    keys: &ClickIdKey,
    now: Timestamp,
    site: &Site,
    click: &Click,
    around: &Around,
) -> Result<Recorded> {
    let seen = body::Seen::of_click(click);
    let sent = body::Sent {
        site_key: site.key.as_str().into(),
        click_id: click.click_id.clone(),
        sent_at_ms: now.as_ms(),
        what: body::What::Visit(seen.clone()),
    };
    record(store, keys, now, site, &sent, &seen, around).await
}

/// How far back a host that was accepted late counts.
const COUNTED_DAYS: u64 = 90;

/// Counts the visits that came from a host, or from one below it, before the owner named it.
pub(crate) async fn count_host(
    store: &Store,
    now: Timestamp,
    site_id: &str,
    host: &str,
) -> Result<()> {
    let since = now.minus(Duration::from_secs(COUNTED_DAYS * 86_400));
    let mut tx = store.begin().await?;
    table::count_host(&mut tx, since, site_id, host).await?;
    tx.commit().await
}

/// True for crawlers and for programs that make previews of links.
pub(crate) fn is_bot(user_agent: &str) -> bool {
    agent::read(user_agent).device == "bot"
}

/// The host of an address, in small letters.
pub(crate) fn host_of(url: &str) -> Option<String> {
    landing::host_of(url)
}

/// 400 days, the longest life browsers grant.
const COOKIE_SECONDS: i64 = 34_560_000;

/// A cookie that pages may read, for the whole domain that `host` belongs to.
pub(crate) fn cookie(name: &str, value: &str, host: &str, is_secure: bool) -> String {
    let mut cookie = format!("{name}={value}; Path=/; Max-Age={COOKIE_SECONDS}; SameSite=Lax");
    if let Some(domain) = hosts::cookie_domain(host) {
        cookie.push_str("; Domain=");
        cookie.push_str(&domain);
    }
    if is_secure {
        cookie.push_str("; Secure");
    }
    cookie
}

/// Makes a note durable: an AnyTrack click ID seen beside this click ID. At most 20 per click ID; further ones are ignored.
pub(crate) async fn note(
    store: &Store,
    now: Timestamp,
    click_id: &ClickId,
    anytrack_click_id: &str,
) -> Result<()> {
    let mut tx = store.begin().await?;
    table::insert_note(&mut tx, now, click_id, anytrack_click_id).await?;
    tx.commit().await
}

/// Makes durable whose browser came back from this checkout.
pub(crate) async fn note_session(
    store: &Store,
    now: Timestamp,
    click_id: &ClickId,
    session_id: &str,
) -> Result<()> {
    let mut tx = store.begin().await?;
    table::insert_session(&mut tx, now, click_id, session_id).await?;
    tx.commit().await
}

/// Makes an event of a page durable; false for a repeat.
pub(crate) async fn keep_event(
    store: &Store,
    now: Timestamp,
    site: &Site,
    sent: &body::Sent<'_>,
    event: &body::Event<'_>,
) -> Result<bool> {
    let mut tx = store.begin().await?;
    let is_new = table::insert_event(&mut tx, now, site, sent, event).await?;
    tx.commit().await?;
    Ok(is_new)
}

/// An event of a page, as it was kept.
#[derive(Clone, Debug)]
pub(crate) struct PageEvent {
    /// `pev_…`.
    pub(crate) id: String,
    pub(crate) site_id: String,
    /// As the page presented it.
    pub(crate) click_id: ClickId,
    /// The browser's; with the click ID and the name it recognises a repeat.
    pub(crate) sent_at_ms: i64,
    pub(crate) name: String,
    pub(crate) received_at: Timestamp,
    pub(crate) url: Option<String>,
    /// Texts by name.
    pub(crate) properties: BTreeMap<String, String>,
}

/// An event of a page that the ledger has not got yet.
pub(crate) struct WaitingEvent {
    /// `pev_…`.
    pub(crate) id: String,
    /// Tries so far.
    pub(crate) attempts: i64,
    /// One whose row cannot be read must not hold up the others.
    pub(crate) event: Result<PageEvent>,
}

/// The oldest events of pages that are due for the ledger.
pub(crate) async fn events_waiting(
    store: &Store,
    now: Timestamp,
    limit: i64,
) -> Result<Vec<WaitingEvent>> {
    table::events_waiting(store, now, limit).await
}

/// Notes that an event could not be taken: when it is tried again, or that it is not any more.
pub(crate) async fn put_event_off(
    store: &Store,
    now: Timestamp,
    id: &str,
    again_at: Option<Timestamp>,
    error: &str,
) -> Result<()> {
    let mut tx = store.begin().await?;
    table::put_event_off(&mut tx, now, id, again_at, error).await?;
    tx.commit().await
}

/// Makes an event that failed due again; false when there is none.
pub(crate) async fn rerun_event(store: &Store, now: Timestamp, id: &str) -> Result<bool> {
    let mut tx = store.begin().await?;
    let is_done = table::rerun_event(&mut tx, now, id).await?;
    tx.commit().await?;
    Ok(is_done)
}

/// Makes due what was received while the clock was ahead. Answers how many events of pages.
pub(crate) async fn bring_events_back(store: &Store, now: Timestamp) -> Result<u64> {
    let mut tx = store.begin().await?;
    let brought = table::bring_events_back(&mut tx, now).await?;
    tx.commit().await?;
    Ok(brought)
}

/// The events of pages after this one that the ledger has, in the order of arrival.
pub(crate) async fn events_after(
    store: &Store,
    after: Option<&PageEvent>,
    limit: i64,
) -> Result<Vec<PageEvent>> {
    table::events_after(store, after, limit).await
}

/// Notes which conversion an event became; false when somebody did so before.
pub(crate) async fn settle_event(
    tx: &mut AnyConnection,
    id: &str,
    conversion_id: &str,
) -> Result<bool> {
    table::settle_event(tx, id, conversion_id).await
}

/// A recorded visit, as the join needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Visit {
    pub(crate) click_id: ClickId,
    pub(crate) site_id: String,
    pub(crate) at: Timestamp,
    pub(crate) previous: Option<ClickId>,
    pub(crate) channel: String,
    pub(crate) source: Option<String>,
    pub(crate) medium: Option<String>,
    pub(crate) campaign: Option<String>,
    pub(crate) landing_path: Option<String>,
    pub(crate) device: String,
    /// Only the request for the tag's script told of it; its report may still come.
    pub(crate) is_provisional: bool,
}

/// Makes a provisional visit one that counts, because a payment names it; nothing, should its report have come.
pub(crate) async fn promote(tx: &mut AnyConnection, click_id: &str) -> Result<()> {
    table::promote(tx, click_id).await
}

/// How long a provisional visit waits to be named.
const PROVISIONAL_DAYS: u64 = 7;

/// Forgets provisional visits that nobody named in time. Answers how many.
pub(crate) async fn forget_provisional(tx: &mut AnyConnection, now: Timestamp) -> Result<u64> {
    let until = now.minus(Duration::from_secs(PROVISIONAL_DAYS * 86_400));
    table::delete_provisional(tx, until).await
}

/// A click ID that was last seen some time ago.
pub(crate) struct OldClickId {
    pub(crate) click_id: String,
    pub(crate) site_id: String,
    pub(crate) visits: i64,
    pub(crate) first_at: Timestamp,
    pub(crate) last_at: Timestamp,
}

/// Click IDs after this one, in their order, whose latest visit was before `until`.
pub(crate) async fn last_seen_before(
    tx: &mut AnyConnection,
    until: Timestamp,
    after: &str,
    limit: i64,
) -> Result<Vec<OldClickId>> {
    table::last_seen_before(tx, until, after, limit).await
}

/// Deletes the visits, and the notes beside them, of the click IDs between these two, both included, that were last seen before `until`.
/// What was counted stays counted.
pub(crate) async fn delete_old(
    tx: &mut AnyConnection,
    until: Timestamp,
    from: &str,
    to: &str,
) -> Result<()> {
    table::delete_old(tx, until, from, to).await
}

/// The first visit under a click ID, or under the signed one that a client-made ID stands for.
pub(crate) async fn find(tx: &mut AnyConnection, click_id: &ClickId) -> Result<Option<Visit>> {
    table::find(tx, click_id).await
}

/// The visit beside which AnyTrack used this click ID of its own; the earliest, should there be several.
pub(crate) async fn find_by_anytrack_id(
    tx: &mut AnyConnection,
    anytrack_click_id: &str,
) -> Result<Option<Visit>> {
    match table::click_id_of_note(tx, anytrack_click_id).await? {
        Some(click_id) => table::find(tx, &click_id).await,
        None => Ok(None),
    }
}

/// The visit whose browser came back from this checkout; the first one, should there be several.
pub(crate) async fn find_by_session(
    tx: &mut AnyConnection,
    session_id: &str,
) -> Result<Option<Visit>> {
    match table::click_id_of_session(tx, session_id).await? {
        Some(click_id) => table::find(tx, &click_id).await,
        None => Ok(None),
    }
}

/// The AnyTrack click ID captured beside a click ID; the latest, should there be several.
pub(crate) async fn anytrack_id_of(
    tx: &mut AnyConnection,
    click_id: &ClickId,
) -> Result<Option<String>> {
    table::note_of(tx, click_id).await
}

/// Everything a destination may know of a visit, by the names that mappings use; null when there is none.
pub(crate) async fn facts(tx: &mut AnyConnection, click_id: &ClickId) -> Result<serde_json::Value> {
    table::facts(tx, click_id).await
}

/// The visitor's way that ends with `last`: first touch first. Follows `previous`, stops at a gap or a circle.
/// Answers also the click ID whose visit is the gap, because it may still arrive.
pub(crate) async fn way_to(
    tx: &mut AnyConnection,
    last: Visit,
) -> Result<(Vec<Visit>, Option<ClickId>)> {
    let (mut way, mut gap) = (vec![last], None);
    while way.len() < MAX_TOUCHES {
        let before = way.last().and_then(|visit| visit.previous.clone());
        let Some(before) = before.filter(|id| way.iter().all(|visit| visit.click_id != *id)) else {
            break;
        };
        let Some(visit) = table::find(tx, &before).await? else {
            gap = Some(before);
            break;
        };
        if way.iter().any(|known| known.click_id == visit.click_id) {
            break;
        }
        way.push(visit);
    }
    way.reverse();
    Ok((way, gap))
}
