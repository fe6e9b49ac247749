//! SQL of `visits` and `visit_counts`; submodules have that of the other tables. Takes a parsed
//! visit; returns a row for the group-commit writer. Also returns stored visits for matching.
//! Private to this module.

mod event;
mod note;
mod old;
mod provisional;
mod reread;
mod sums;

use std::borrow::Cow;

use anyhow::{Context as _, Result};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use sqlx::AnyConnection;

use super::body::{Seen, Sent};
use super::stored::Earlier;
use super::{Around, Visit, agent, flags, landing};
use crate::clock::Timestamp;
use crate::domain::{Device, QUARTER_MS, Word as _};
use crate::ids::{self, ClickId};
use crate::settings::Site;
use crate::store::{Batch, Cell, Kind, NewRow, Row, Store, Tally, sql};

pub(super) use event::{
    NewEvent, accept_events, bring_events_back, count_apart, delete_apart, events_after,
    events_waiting, insert_event, put_event_off, rerun_event, settle_event, take_event,
};
pub(super) use note::{
    click_id_of_note, click_id_of_session, insert_note, insert_session, note_of,
};
pub(super) use old::{delete_old, last_seen_before};
pub(super) use provisional::{
    delete_provisional, insert_provisional, promote, replace_provisional, reported_between,
};
pub(super) use reread::{add_to_counters, rename, stored_landings};
pub(super) use sums::{add_sums, has_counters, take_counters};

/// The table that the group-commit writer inserts into.
pub(crate) static VISITS: Batch = Batch {
    table: "visits",
    columns: &[
        ("click_id", Kind::Text),
        ("sent_at_ms", Kind::Int),
        ("site_id", Kind::Text),
        ("at_ms", Kind::Int),
        ("received_at_ms", Kind::Int),
        ("alias", Kind::Text),
        ("previous_click_id", Kind::Text),
        ("url", Kind::Text),
        ("referrer", Kind::Text),
        ("channel", Kind::Text),
        ("source", Kind::Text),
        ("medium", Kind::Text),
        ("campaign", Kind::Text),
        ("landing_host", Kind::Text),
        ("landing_path", Kind::Text),
        ("device", Kind::Text),
        ("flags", Kind::Int),
        ("visitor", Kind::Text),
        ("details", Kind::Text),
    ],
    key: &["click_id", "sent_at_ms"],
};

/// The counters that it increments in the same transaction.
pub(crate) static COUNTS: Tally = Tally {
    table: "visit_counts",
    columns: &[
        ("site_id", Kind::Text),
        ("quarter", Kind::Int),
        ("channel", Kind::Text),
        ("source", Kind::Text),
        ("medium", Kind::Text),
        ("campaign", Kind::Text),
        ("landing_path", Kind::Text),
        ("device", Kind::Text),
    ],
    count: "visits",
};

/// A visit to insert.
pub(super) struct NewVisit<'a> {
    pub(super) click_id: &'a ClickId,
    pub(super) alias: Option<&'a ClickId>,
    pub(super) at: Timestamp,
    pub(super) received_at: Timestamp,
    pub(super) flag: i64,
    pub(super) site: &'a Site,
    pub(super) sent: &'a Sent<'a>,
    pub(super) seen: &'a Seen<'a>,
    pub(super) around: &'a Around,
    /// The keyed hash of the visitor's address and browser; another one each day.
    pub(super) visitor: String,
}

impl NewVisit<'_> {
    /// The row, in the column order of [`VISITS`], and the key of its counter.
    pub(super) fn into_row(self) -> NewRow {
        let Self { click_id, alias, at, received_at, flag, site, sent, seen, around, visitor } =
            self;
        let mut landing = landing::read(seen.url.as_deref(), seen.referrer.as_deref());
        if let Some(alias) = seen.link {
            // Reports find a link by this path, whatever path prefix the server's URL has.
            landing.path = Some(format!("/p/{alias}"));
        } else if around.is_at_link
            && let Some(path) = &mut landing.path
        {
            // A page of the site with such a path. The slash keeps its visits from counting as
            // clicks on the link.
            path.push('/');
        }
        let is_further_page = flag & flags::CONTINUED != 0;
        if is_further_page {
            landing.path = None;
        }
        let agent = agent::read(&around.user_agent);
        let is_own = |host: &str| site.domains.iter().any(|domain| covers(domain, host));
        let is_known_host = site.domains.is_empty()
            || seen.link.is_some()
            || (landing.host.as_deref().is_some_and(is_own)
                && around.origin_host.as_deref().is_none_or(is_own));
        let mut details = Details::of(&landing, seen, around, agent.browser);
        let flags = flag
            | set(seen.is_automated, flags::AUTOMATED)
            | set(seen.wants_privacy || around.wants_privacy, flags::GPC)
            | set(seen.is_adopted, flags::ADOPTED)
            | set(around.has_agreed, flags::AGREED)
            | set(!is_known_host, flags::UNKNOWN_HOST);
        let device = agent.device;
        let rules_out = flags::AUTOMATED
            | flags::GPC
            | flags::FORGED
            | flags::FOREIGN_SITE
            | flags::UNKNOWN_HOST
            | flags::COOKIELESS;
        // With its cookie, AnyTrack knows this visitor already and would count them twice.
        let is_for_anytrack = around.keeps_user_agent
            && flags & rules_out == 0
            && device != Device::Bot
            && seen.url.is_some()
            && !details.ad_cookies.has("_atcid");
        details.user_agent = is_for_anytrack.then_some(around.user_agent.as_str());
        let flags = flags | set(is_for_anytrack, flags::FOR_ANYTRACK);
        let details = details.to_json();
        let word = |field: &Option<String>| Cell::Text(field.clone().unwrap_or_default().into());
        let is_counted = is_known_host && !is_further_page;
        let tally = is_counted.then(|| {
            vec![
                site.id.clone().into(),
                Cell::Int(at.as_ms().div_euclid(QUARTER_MS)),
                landing.channel.as_str().into(),
                word(&landing.source),
                word(&landing.medium),
                word(&landing.campaign),
                word(&landing.path),
                device.as_str().into(),
            ]
        });
        let id = |id: &ClickId| id.as_str().to_owned();
        let owned = |text: &Option<Cow<'_, str>>| Cell::from(text.as_deref().map(str::to_owned));
        let cells = vec![
            id(click_id).into(),
            Cell::Int(sent.sent_at_ms),
            site.id.clone().into(),
            Cell::Int(at.as_ms()),
            Cell::Int(received_at.as_ms()),
            alias.map(id).into(),
            seen.previous.as_ref().map(id).into(),
            owned(if is_further_page { &None } else { &seen.url }),
            owned(&seen.referrer),
            landing.channel.as_str().into(),
            landing.source.into(),
            landing.medium.into(),
            landing.campaign.into(),
            landing.host.into(),
            landing.path.into(),
            device.as_str().into(),
            Cell::Int(flags),
            visitor.into(),
            details.into(),
        ];
        NewRow { cells, tally }
    }
}

fn set(on: bool, bit: i64) -> i64 {
    if on { bit } else { 0 }
}

/// True if `host` is `domain` or one of its subdomains.
fn covers(domain: &str, host: &str) -> bool {
    host == domain || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
}

/// The fields of a visit that have no column, stored as JSON. Empty ones are left out.
#[derive(Serialize)]
struct Details<'a> {
    #[serde(skip_serializing_if = "Pairs::is_empty")]
    ad_click_ids: Pairs<'a>,
    #[serde(skip_serializing_if = "Pairs::is_empty")]
    parameters: Pairs<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    term: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Pairs::is_empty")]
    ad_cookies: Pairs<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    language: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    browser: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag_host: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<&'a str>,
    /// The full user agent, only if the visit may be registered with AnyTrack.
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'a str>,
}

impl<'a> Details<'a> {
    fn of(
        landing: &'a landing::Landing,
        seen: &'a Seen<'_>,
        around: &'a Around,
        browser: &'a str,
    ) -> Self {
        let some = |text: &'a Option<String>| text.as_deref().filter(|text| !text.is_empty());
        let cookies = seen.ad_cookies.as_deref().unwrap_or_default();
        let cookies = cookies.split(',').filter_map(|pair| pair.split_once('='));
        Self {
            ad_click_ids: Pairs::of(&landing.ad_click_ids),
            parameters: Pairs::of(&landing.parameters),
            term: some(&landing.term),
            content: some(&landing.content),
            ad_cookies: Pairs(cookies.map(|(name, value)| (name.trim(), value)).collect()),
            language: some(&around.language),
            browser,
            tag_host: some(&around.fetch_site),
            link: seen.link,
            user_agent: None,
        }
    }

    fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts are JSON")
    }
}

/// Names and values, written as a JSON object. If a name is repeated, readers use its last value.
struct Pairs<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Pairs<'a> {
    fn of(pairs: &'a [(String, String)]) -> Self {
        Self(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect())
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| *known == name)
    }
}

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

/// Counts the visits of a host that was unknown until now.
pub(super) async fn count_host(
    tx: &mut AnyConnection,
    since: Timestamp,
    site_id: &str,
    host: &str,
) -> Result<()> {
    // Grouping by the columns of a counter gives exactly the counters that were left out.
    sql("insert into visit_counts (site_id, quarter, channel, source, medium, campaign, landing_path, device, visits)
         select site_id, at_ms / 900000, channel, coalesce(source, ''), coalesce(medium, ''), coalesce(campaign, ''),
                coalesce(landing_path, ''), device, count(*)
           from visits
          where click_id >= :click_id and site_id = :site_id and (flags & :unknown_host) = :unknown_host
            and flags & 65536 = 0
            and (landing_host = :host or landing_host like '%.' || :host)
          group by 1, 2, 3, 4, 5, 6, 7, 8
             on conflict (site_id, quarter, channel, source, medium, campaign, landing_path, device)
             do update set visits = visit_counts.visits + excluded.visits")
    .set("click_id", ids::first_click_id(since))
    .set("site_id", site_id)
    .set("unknown_host", flags::UNKNOWN_HOST)
    .set("host", host)
    .execute(&mut *tx)
    .await
    .context("could not count the visits of a host")?;
    sql("update visits set flags = flags - :unknown_host
          where click_id >= :click_id and site_id = :site_id and (flags & :unknown_host) = :unknown_host
            and (landing_host = :host or landing_host like '%.' || :host)")
    .set("click_id", ids::first_click_id(since))
    .set("site_id", site_id)
    .set("unknown_host", flags::UNKNOWN_HOST)
    .set("host", host)
    .execute(tx)
    .await
    .context("could not mark the visits of a host as counted")?;
    Ok(())
}

/// The visitor's newest page view of the day on a site without cookies.
pub(super) async fn newest_of_day(
    store: &Store,
    site_id: &str,
    visitor: &str,
) -> Result<Option<Earlier>> {
    let mut connection = store.pool().acquire().await?;
    let newest = sql("select click_id, received_at_ms
           from visits
          where visitor = :visitor and site_id = :site_id and flags & 32768 <> 0
          order by received_at_ms desc, click_id desc
          limit 1")
    .set("visitor", visitor)
    .set("site_id", site_id)
    .fetch_optional(&mut *connection)
    .await
    .context("could not read the visitor's earlier visit")?;
    let Some(newest) = newest else { return Ok(None) };
    let click_id = click_id(&newest, "click_id")?;
    // The first page of the click; the others are stored without an address.
    let first = sql("select url, referrer
           from visits
          where click_id = :click_id
          order by at_ms, received_at_ms, sent_at_ms
          limit 1")
    .set("click_id", click_id.as_str())
    .fetch_one(&mut *connection)
    .await
    .context("could not read the page of a click")?;
    Ok(Some(Earlier {
        click_id,
        seen_at: newest.get("received_at_ms")?,
        url: first.get("url")?,
        referrer: first.get("referrer")?,
    }))
}

/// The signed click ID under which the visit of `alias` is stored.
pub(super) async fn signed_for(store: &Store, alias: &ClickId) -> Result<Option<ClickId>> {
    let mut connection = store.pool().acquire().await?;
    alias_target(&mut connection, alias).await
}

/// The visit that a click ID is another name of: the browser made it because it had none of ours
/// (`ck_z…`), or a site without cookies gave it to a further page. What was forged (256) or is of
/// another site (512) is no name of the visit that replaced it.
async fn alias_target(tx: &mut AnyConnection, alias: &ClickId) -> Result<Option<ClickId>> {
    let row = sql("select v.click_id from visits v
          where v.alias = :alias and (substr(v.alias, 1, 4) = 'ck_z' or (v.flags & 33536) = 32768)
          order by v.click_id limit 1")
    .set("alias", alias.as_str())
    .fetch_optional(tx)
    .await?;
    row.map(|row| click_id(&row, "click_id")).transpose()
}

pub(super) async fn find(tx: &mut AnyConnection, id: &ClickId) -> Result<Option<Visit>> {
    // Most click IDs are those of visits. Those made by browsers, and those of further pages on a site
    // without cookies, are other names of one.
    if !id.is_client_made()
        && let Some(visit) = find_signed(tx, id).await?
    {
        return Ok(Some(visit));
    }
    match alias_target(tx, id).await? {
        Some(signed) => find_signed(tx, &signed).await,
        None => Ok(None),
    }
}

async fn find_signed(tx: &mut AnyConnection, signed: &ClickId) -> Result<Option<Visit>> {
    // At the same time, a reported visit comes before a provisional one. The browser's time is the
    // last criterion, because clients can choose it.
    let row = sql("select click_id, site_id, at_ms, previous_click_id, channel, source, medium, campaign, landing_path, device,
                flags & 8192 as provisional, received_at_ms, sent_at_ms
           from visits
          where click_id = :signed
          union all
         select click_id, site_id, at_ms, previous_click_id, channel, source, medium, campaign, landing_path, device,
                flags & 8192, received_at_ms, sent_at_ms
           from provisional_visits
          where click_id = :signed
          order by at_ms, provisional, received_at_ms, sent_at_ms
          limit 1")
    .set("signed", signed.as_str())
    .fetch_optional(tx)
    .await
    .context("could not read the visit of a click ID")?;
    row.map(|row| visit(&row)).transpose()
}

pub(super) async fn facts(tx: &mut AnyConnection, click_id: &ClickId) -> Result<Value> {
    let row = sql("select at_ms, url, referrer, channel, source, medium, campaign, landing_path, device, flags, details,
                flags & 8192 as provisional, received_at_ms, sent_at_ms
           from visits
          where click_id = :click_id
          union all
         select at_ms, url, referrer, channel, source, medium, campaign, landing_path, device, flags, details,
                flags & 8192, received_at_ms, sent_at_ms
           from provisional_visits
          where click_id = :click_id
          order by at_ms, provisional, received_at_ms, sent_at_ms
          limit 1")
    .set("click_id", click_id.as_str())
    .fetch_optional(tx)
    .await
    .context("could not read a visit")?;
    let Some(row) = row else { return Ok(Value::Null) };
    let details: String = row.get("details")?;
    let details: Value = serde_json::from_str(&details).context("a visit's details")?;
    let text = |column: &str| row.get::<Option<String>>(column).map(Value::from);
    let (at, flags): (i64, i64) = (row.get("at_ms")?, row.get("flags")?);
    let mut facts = Map::new();
    facts.insert("click_id".to_owned(), click_id.as_str().into());
    facts.insert("at".to_owned(), Timestamp::from_ms(at).to_rfc3339().into());
    facts.insert("gpc".to_owned(), (flags & flags::GPC != 0).into());
    facts.insert("agreed".to_owned(), (flags & flags::AGREED != 0).into());
    for column in
        ["url", "referrer", "channel", "source", "medium", "campaign", "landing_path", "device"]
    {
        facts.insert(column.to_owned(), text(column)?);
    }
    for name in ["term", "content", "language"] {
        facts.insert(name.to_owned(), details[name].clone());
    }
    facts.insert("params".to_owned(), details["parameters"].clone());
    for (name, value) in details["ad_click_ids"].as_object().into_iter().flatten() {
        facts.insert(name.clone(), value.clone());
    }
    // Expressions use `fbp` for the cookie `_fbp`.
    let cookies = details["ad_cookies"].as_object().into_iter().flatten();
    let cookies: Map<_, _> = cookies
        .map(|(name, value)| (name.trim_start_matches('_').to_owned(), value.clone()))
        .collect();
    facts.extend(cookies.clone());
    // Also under a name of their own, so that destinations can remove all of them.
    facts.insert("ad_cookies".to_owned(), cookies.into());
    Ok(Value::Object(facts))
}

fn visit(row: &Row) -> Result<Visit> {
    let previous: Option<String> = row.get("previous_click_id")?;
    Ok(Visit {
        click_id: click_id(row, "click_id")?,
        site_id: row.get("site_id")?,
        at: row.get("at_ms")?,
        previous: previous.as_deref().and_then(ClickId::parse),
        channel: row.get("channel")?,
        source: row.get("source")?,
        medium: row.get("medium")?,
        campaign: row.get("campaign")?,
        landing_path: row.get("landing_path")?,
        device: row.get("device")?,
        is_provisional: row.get::<bool>("provisional")?,
    })
}

fn click_id(row: &Row, column: &str) -> Result<ClickId> {
    let text: String = row.get(column)?;
    ClickId::parse(&text).with_context(|| format!("{text:?} is not a click ID"))
}
