//! Visits of the pages of a site. Takes what the tag sends; stores it, and returns visits and
//! customer journeys by click ID for matching. Guarantees that `record` returns only after the
//! commit, and that a repeated request adds no second visit.

mod agent;
mod body;
mod channel;
mod click;
mod cookieless;
mod counter;
pub(crate) mod endpoint;
mod fold;
mod landing;
mod limit;
mod private;
mod provisional;
mod renamed;
mod request;
mod reread;
mod stored;
mod table;

use std::time::Duration;

use anyhow::Result;
use cookieless::Joined;

pub(crate) use agent::is_robot;
pub(crate) use channel::{CHANNEL_RULES, names_ad_click};
pub(crate) use click::{ad_parameters, is_outside};
pub(crate) use fold::fold;
pub(crate) use limit::VisitLimit;
pub(crate) use provisional::Landings;
pub(crate) use request::{Around, Arrival, Click};
pub(crate) use reread::{Part, read_again, recount, rename};
pub(crate) use stored::{ApartEvents, KeptEvent, OldClickId, PageEvent, Visit, WaitingEvent};
pub(crate) use table::{COUNTS, VISITS};

pub(crate) use crate::domain::flags;

use crate::clock::Timestamp;
use crate::domain::Device;
use crate::hosts;
use crate::ids::ClickId;
use crate::settings::Consent;
use crate::store::{AnyConnection, Inserted, Store};

/// Maximum number of touchpoints of a customer journey.
const MAX_TOUCHES: usize = 30;
/// Maximum age in days at which a click ID's mint time is used as the time of the visit. Later
/// visits get the time of arrival.
const MAX_MINT_AGE_DAYS: u64 = 7;

/// The result of recording a visit.
#[derive(Debug)]
pub(crate) struct Recorded {
    /// The signed click ID under which the visit is stored: the one that was sent, if that was
    /// genuine.
    pub(crate) click_id: ClickId,
    /// False for a repeat.
    pub(crate) is_new: bool,
    /// True if the visitor was here before.
    pub(crate) is_known: bool,
}

/// Stores a visit. Returns after the commit. A forged click ID, one of another site, or one made by
/// the browser gets a signed replacement.
pub(crate) async fn record(
    arrival: &Arrival<'_>,
    sent: &body::Sent<'_>,
    seen: &body::Seen<'_>,
) -> Result<Recorded> {
    if arrival.site.tag.consent == Consent::Cookieless {
        return record_cookieless(arrival, sent, seen).await;
    }
    let visitor = arrival.around.visitor(arrival.keys, arrival.now);
    record_click_id(arrival, sent, seen, (visitor, 0)).await
}

/// Stores a page view of a site whose tag stores nothing in the browser: as a click of its own, or
/// as a further page of an earlier click of the same day.
async fn record_cookieless(
    arrival: &Arrival<'_>,
    sent: &body::Sent<'_>,
    seen: &body::Seen<'_>,
) -> Result<Recorded> {
    let Arrival { store, keys, now, site, around } = *arrival;
    let address = around.address.to_string();
    let visitor = cookieless::visitor(keys, site, now, &address, &around.user_agent);
    // A tag from before the site stored nothing may still send what it stored.
    let seen = body::Seen { ad_cookies: None, ..seen.clone() };
    let presented = &sent.click_id;
    if !presented.is_client_made()
        && keys.read(presented).is_none_or(|minted| minted.site_number != site.number)
    {
        return record_click_id(arrival, sent, &seen, (visitor, flags::COOKIELESS)).await;
    }
    let (click_id, is_visit) =
        match cookieless::join(store, site, &visitor, now, (presented, &seen)).await? {
            Joined::Alone => {
                return record_click_id(arrival, sent, &seen, (visitor, flags::COOKIELESS)).await;
            }
            Joined::After(previous) => {
                let seen = body::Seen { previous: Some(previous), ..seen };
                return record_click_id(arrival, sent, &seen, (visitor, flags::COOKIELESS)).await;
            }
            Joined::To { click_id, is_visit } => (click_id, is_visit),
        };
    let mut seen = body::Seen { previous: Some(click_id.clone()), ..seen };
    let mut flag = flags::COOKIELESS;
    if !is_visit {
        flag |= flags::CONTINUED;
        seen.referrer = None;
    }
    let (mut sent, mut place) = (sent.clone(), cookieless::place_of(presented));
    loop {
        let row = table::NewVisit {
            click_id: &click_id,
            alias: Some(presented),
            at: now,
            received_at: now,
            flag,
            site,
            sent: &sent,
            seen: &seen,
            around,
            visitor: visitor.clone(),
        };
        let inserted = store.insert(row.into_row()).await?;
        if inserted == Inserted::New {
            table::replace_provisional(store, presented).await?;
        }
        // Pages of one visitor may name the same millisecond, and a hostile browser always does. Each
        // needs its name, so it gets a place of its own, which takes no search.
        if inserted == Inserted::New || table::signed_for(store, presented).await?.is_some() {
            return Ok(Recorded { click_id, is_new: inserted == Inserted::New, is_known: true });
        }
        sent.sent_at_ms = place;
        place = place.checked_add(1).unwrap_or_default();
    }
}

/// Stores a visit under its own click ID, or under a signed replacement.
async fn record_click_id(
    arrival: &Arrival<'_>,
    sent: &body::Sent<'_>,
    seen: &body::Seen<'_>,
    (visitor, mode): (String, i64),
) -> Result<Recorded> {
    let Arrival { store, now, site, around, .. } = *arrival;
    let presented = &sent.click_id;
    let (click_id, minted_at, flag) = signed(arrival, presented).await?;
    let is_first = seen.previous.as_ref() != Some(presented);
    let is_fresh =
        |at: &Timestamp| now.since(*at).as_secs() <= MAX_MINT_AGE_DAYS * 86_400 && *at <= now;
    let at = minted_at.filter(|at| is_first && is_fresh(at)).unwrap_or(now);
    let alias = (flag != 0).then_some(presented);
    let is_known = seen.previous.is_some();
    let row = table::NewVisit {
        click_id: &click_id,
        alias,
        at,
        received_at: now,
        flag: flag | mode,
        site,
        sent,
        seen,
        around,
        visitor,
    };
    let inserted = store.insert(row.into_row()).await?;
    if is_first && minted_at.is_some_and(|at| now.since(at) >= provisional::REPORT_DUE) {
        table::replace_provisional(store, &click_id).await?;
    }
    if inserted == Inserted::Duplicate
        && let Some(alias) = alias
    {
        // The same body arrived twice at once: both responses return the click ID that was stored.
        let known = table::signed_for(store, alias).await?;
        let click_id = known.unwrap_or(click_id);
        return Ok(Recorded { click_id, is_new: false, is_known });
    }
    Ok(Recorded { click_id, is_new: inserted == Inserted::New, is_known })
}

/// The signed click ID for the presented one, when it was minted if it is the same, and the flag of
/// a replacement.
async fn signed(
    arrival: &Arrival<'_>,
    presented: &ClickId,
) -> Result<(ClickId, Option<Timestamp>, i64)> {
    let Arrival { store, keys, now, site, around } = *arrival;
    let replaced = |flag| (keys.mint(now, site.number), None, flag);
    if presented.is_client_made() {
        let flag = if around.has_fixed_tag { flags::FIXED_TAG } else { flags::CLIENT_MADE };
        let known = table::signed_for(store, presented).await?;
        return Ok(known.map_or_else(|| replaced(flag), |known| (known, None, flag)));
    }
    Ok(match keys.read(presented) {
        Some(minted) if minted.site_number == site.number => {
            (presented.clone(), Some(minted.at), 0)
        }
        Some(_) => replaced(flags::FOREIGN_SITE),
        None => replaced(flags::FORGED),
    })
}

/// Stores the visit of a click on a redirect link. Returns after the commit.
pub(crate) async fn record_click(arrival: &Arrival<'_>, click: &Click) -> Result<Recorded> {
    let seen = body::Seen::of_click(click);
    let sent = body::Sent {
        site_key: arrival.site.key.as_str().into(),
        click_id: click.click_id.clone(),
        sent_at_ms: arrival.now.as_ms(),
        what: body::What::Visit(seen.clone()),
    };
    record(arrival, &sent, &seen).await
}

/// How many days back visits are counted when the owner adds a host to the site's domains.
const COUNTED_DAYS: u64 = 90;

/// Counts the visits and page events from a host and its subdomains that arrived before the owner
/// added the host.
pub(crate) async fn count_host(
    store: &Store,
    now: Timestamp,
    site_id: &str,
    host: &str,
) -> Result<()> {
    let since = now.minus(Duration::from_secs(COUNTED_DAYS * 86_400));
    let mut tx = store.begin().await?;
    table::count_host(&mut tx, since, site_id, host).await?;
    table::accept_events(&mut tx, site_id, host).await?;
    tx.commit().await
}

/// True for crawlers and for programs that create link previews.
pub(crate) fn is_bot(user_agent: &str) -> bool {
    agent::read(user_agent).device == Device::Bot
}

/// 400 days, the maximum that browsers allow.
const COOKIE_SECONDS: i64 = 34_560_000;

/// A cookie that scripts can read, for the registrable domain of `host`.
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

/// Stores an AnyTrack click ID that the tag captured together with this click ID. After 20 for a
/// click ID, further ones are ignored.
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

/// Stores that the visitor with this click ID came back from this Stripe checkout session.
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

/// Stores an event of a page. It counts once a visit with its click ID counts, unless it came from
/// another website.
async fn keep_event(store: &Store, new: &table::NewEvent<'_>) -> Result<KeptEvent> {
    let mut tx = store.begin().await?;
    let kept = table::insert_event(&mut tx, new).await?;
    if kept == KeptEvent::New {
        tx.commit().await?;
    }
    Ok(kept)
}

/// How long an event of a page is kept that does not count.
const APART_DAYS: u64 = 30;

/// How many events that do not count are older than that, by site ID.
pub(crate) async fn old_apart(store: &Store, now: Timestamp) -> Result<Vec<(String, i64)>> {
    table::count_apart(store, &older(now)).await
}

/// Deletes them. Returns their number.
pub(crate) async fn forget_apart(store: &Store, now: Timestamp) -> Result<u64> {
    delete_apart(store, &older(now)).await
}

fn older(now: Timestamp) -> ApartEvents<'static> {
    let until = now.minus(Duration::from_secs(APART_DAYS * 86_400));
    ApartEvents { until: Some(until), ..ApartEvents::default() }
}

/// Deletes events of pages that do not count. Returns their number.
pub(crate) async fn delete_apart(store: &Store, of: &ApartEvents<'_>) -> Result<u64> {
    let mut tx = store.begin().await?;
    let deleted = table::delete_apart(&mut tx, of).await?;
    tx.commit().await?;
    Ok(deleted)
}

/// The oldest page events that are due for the ledger, of those that were received or became due
/// since a time.
pub(crate) async fn events_waiting(
    store: &Store,
    (now, since): (Timestamp, Timestamp),
    limit: i64,
) -> Result<Vec<WaitingEvent>> {
    table::events_waiting(store, (now, since), limit).await
}

/// Stores that an event could not be recorded in the ledger, and when it is retried. Without
/// `again_at` it has failed for good.
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

/// Makes a failed event due again. Returns false if there is no such failed event.
pub(crate) async fn rerun_event(store: &Store, now: Timestamp, id: &str) -> Result<bool> {
    let mut tx = store.begin().await?;
    let is_done = table::rerun_event(&mut tx, now, id).await?;
    tx.commit().await?;
    Ok(is_done)
}

/// Makes page events due that were received while the clock was ahead. Returns their number.
pub(crate) async fn bring_events_back(store: &Store, now: Timestamp) -> Result<u64> {
    let mut tx = store.begin().await?;
    let brought = table::bring_events_back(&mut tx, now).await?;
    tx.commit().await?;
    Ok(brought)
}

/// The page events after this one that are in the ledger, in the order of arrival.
pub(crate) async fn events_after(
    store: &Store,
    after: Option<&PageEvent>,
    limit: i64,
) -> Result<Vec<PageEvent>> {
    table::events_after(store, after, limit).await
}

/// Locks an event for this transaction; returns false if another copy is processing it or has ended
/// it.
pub(crate) async fn take_event(tx: &mut AnyConnection, id: &str) -> Result<bool> {
    table::take_event(tx, id).await
}

/// Stores the conversion that an event became. Returns false if the event has one already.
pub(crate) async fn settle_event(
    tx: &mut AnyConnection,
    id: &str,
    conversion_id: &str,
) -> Result<bool> {
    table::settle_event(tx, id, conversion_id).await
}

/// Turns a provisional visit into a regular one, because a payment has its click ID. Does nothing
/// if the tag's own request has arrived meanwhile.
pub(crate) async fn promote(tx: &mut AnyConnection, click_id: &str) -> Result<()> {
    table::promote(tx, click_id).await
}

/// How long a provisional visit is kept if no payment has its click ID.
const PROVISIONAL_DAYS: u64 = 7;

/// Deletes provisional visits that are older than that. Returns their number.
pub(crate) async fn forget_provisional(tx: &mut AnyConnection, now: Timestamp) -> Result<u64> {
    let until = now.minus(Duration::from_secs(PROVISIONAL_DAYS * 86_400));
    table::delete_provisional(tx, until).await
}

/// Click IDs after `after`, in their order, whose latest visit was before `until`.
pub(crate) async fn last_seen_before(
    tx: &mut AnyConnection,
    until: Timestamp,
    after: &str,
    limit: i64,
) -> Result<Vec<OldClickId>> {
    table::last_seen_before(tx, until, after, limit).await
}

/// Deletes the visits, and the notes and checkout sessions stored with them, of click IDs from
/// `from` to `to`, both included, whose latest visit was before `until`. The counts in reports do
/// not change.
pub(crate) async fn delete_old(
    tx: &mut AnyConnection,
    until: Timestamp,
    from: &str,
    to: &str,
) -> Result<()> {
    table::delete_old(tx, until, from, to).await
}

/// The first visit of a click ID. A click ID made by a browser is replaced by its signed one first.
pub(crate) async fn find(tx: &mut AnyConnection, click_id: &ClickId) -> Result<Option<Visit>> {
    table::find(tx, click_id).await
}

/// The visit for which the tag captured this AnyTrack click ID; the earliest if there are several.
pub(crate) async fn find_by_anytrack_id(
    tx: &mut AnyConnection,
    anytrack_click_id: &str,
) -> Result<Option<Visit>> {
    match table::click_id_of_note(tx, anytrack_click_id).await? {
        Some(click_id) => table::find(tx, &click_id).await,
        None => Ok(None),
    }
}

/// The visit of the visitor who came back from this checkout session; the first if there are
/// several.
pub(crate) async fn find_by_session(
    tx: &mut AnyConnection,
    session_id: &str,
) -> Result<Option<Visit>> {
    match table::click_id_of_session(tx, session_id).await? {
        Some(click_id) => table::find(tx, &click_id).await,
        None => Ok(None),
    }
}

/// The AnyTrack click ID that the tag captured for a click ID; the first if there are several,
/// so that nobody who learns the click ID can replace it.
pub(crate) async fn anytrack_id_of(
    tx: &mut AnyConnection,
    click_id: &ClickId,
) -> Result<Option<String>> {
    table::note_of(tx, click_id).await
}

/// The fields of a visit that a destination's mapping can use, by their names there; null if there
/// is no visit.
pub(crate) async fn facts(tx: &mut AnyConnection, click_id: &ClickId) -> Result<serde_json::Value> {
    table::facts(tx, click_id).await
}

/// The customer journey that ends with `last`, first touch first. Follows the previous click IDs
/// until a visit is missing or repeated. Also returns the click ID of the missing visit, because it
/// may still arrive.
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
