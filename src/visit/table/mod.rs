//! SQL of `visits`, `provisional_visits`, `visit_counts`, `visit_notes`, `visit_sessions` and `page_events`.
//! In: a parsed visit. Out: a row for the group-commit writer; stored visits for the join. Private to this room.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use anyhow::{Context as _, Result};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

use super::body::{Event, Seen, Sent};
use super::provisional::UNSENT_MS;
use super::{Around, OldClickId, PageEvent, Visit, WaitingEvent, agent, flags, landing};
use crate::clock::Timestamp;
use crate::ids::{self, ClickId, ClickIdKey};
use crate::settings::Site;
use crate::store::{Batch, Cell, Kind, Row, Store, Tally};

/// A quarter of an hour: the grain of the roll-up, which every time zone's day is made of.
const QUARTER_MS: i64 = 900_000;
const MAX_NOTES: i64 = 20;
/// Checkouts kept of one click ID: a visitor buys now and then, a forger could post thousands.
const MAX_SESSIONS: i64 = 50;

/// What the group-commit writer writes.
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

/// What it counts beside.
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

/// A visit on its way into the table.
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
}

impl NewVisit<'_> {
    /// The row, in the order of `VISITS`, and the counter it adds to.
    pub(super) fn into_row(self, keys: &ClickIdKey) -> Row {
        let Self { click_id, alias, at, received_at, flag, site, sent, seen, around } = self;
        let mut landing = landing::read(seen.url.as_deref(), seen.referrer.as_deref());
        if let Some(alias) = seen.link {
            // Whatever prefix our address has today, reports know a link by this.
            landing.path = Some(format!("/p/{alias}"));
        }
        let agent = agent::read(&around.user_agent);
        let is_known_host = site.domains.is_empty()
            || seen.link.is_some()
            || landing
                .host
                .as_deref()
                .is_some_and(|host| site.domains.iter().any(|domain| covers(domain, host)));
        let day = (received_at.as_ms() / 86_400_000).to_string();
        let visitor =
            keys.hash("visitor", &[&day, &around.address.to_string(), &around.user_agent]);
        let mut details = Details::of(&landing, seen, around, agent.browser);
        let flags = flag
            | set(seen.is_automated, flags::AUTOMATED)
            | set(seen.wants_privacy || around.wants_privacy, flags::GPC)
            | set(seen.is_adopted, flags::ADOPTED)
            | set(!is_known_host, flags::UNKNOWN_HOST);
        let device = agent.device;
        let rules_out = flags::AUTOMATED
            | flags::GPC
            | flags::FORGED
            | flags::FOREIGN_SITE
            | flags::UNKNOWN_HOST;
        // AnyTrack's cookie: it knows this visitor, and would count him twice.
        let is_for_anytrack = around.keeps_user_agent
            && flags & rules_out == 0
            && device != "bot"
            && seen.url.is_some()
            && !details.ad_cookies.has("_atcid");
        details.user_agent = is_for_anytrack.then_some(around.user_agent.as_str());
        let flags = flags | set(is_for_anytrack, flags::FOR_ANYTRACK);
        let details = details.to_json();
        let word = |field: &Option<String>| Cell::Text(field.clone().unwrap_or_default().into());
        let tally = is_known_host.then(|| {
            vec![
                site.id.clone().into(),
                Cell::Int(at.as_ms().div_euclid(QUARTER_MS)),
                landing.channel.into(),
                word(&landing.source),
                word(&landing.medium),
                word(&landing.campaign),
                word(&landing.path),
                device.into(),
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
            owned(&seen.url),
            owned(&seen.referrer),
            landing.channel.into(),
            landing.source.into(),
            landing.medium.into(),
            landing.campaign.into(),
            landing.host.into(),
            landing.path.into(),
            device.into(),
            Cell::Int(flags),
            visitor.into(),
            details.into(),
        ];
        Row { cells, tally }
    }
}

fn set(on: bool, bit: i64) -> i64 {
    if on { bit } else { 0 }
}

/// A domain covers itself and everything below it.
fn covers(domain: &str, host: &str) -> bool {
    host == domain || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
}

/// What is kept of a visit beside its columns, as JSON; what is empty is left out.
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
    /// The browser's whole name, only where AnyTrack may be told of the visit.
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
            tag_host: some(&around.tag_host),
            link: seen.link,
            user_agent: None,
        }
    }

    fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts are JSON")
    }
}

/// Names and values, written as an object. Of a name that stands twice a reader takes the last.
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

/// Moves visits of an unknown host over to those that count.
pub(super) async fn count_host(
    tx: &mut AnyConnection,
    since: Timestamp,
    site_id: &str,
    host: &str,
) -> Result<()> {
    // The landing path of one visit is its key in the roll-up too, so grouping here gives the rows that were left out.
    sqlx::query(
        "insert into visit_counts (site_id, quarter, channel, source, medium, campaign, landing_path, device, visits)
         select site_id, at_ms / 900000, channel, coalesce(source, ''), coalesce(medium, ''), coalesce(campaign, ''),
                coalesce(landing_path, ''), device, count(*)
           from visits
          where click_id >= $1 and site_id = $2 and (flags & $3) = $3
            and (landing_host = $4 or landing_host like '%.' || $4)
          group by 1, 2, 3, 4, 5, 6, 7, 8
             on conflict (site_id, quarter, channel, source, medium, campaign, landing_path, device)
             do update set visits = visit_counts.visits + excluded.visits",
    )
    .bind(ids::first_click_id(since))
    .bind(site_id)
    .bind(flags::UNKNOWN_HOST)
    .bind(host)
    .execute(&mut *tx)
    .await
    .context("could not count the visits of a host")?;
    sqlx::query(
        "update visits set flags = flags - $3
          where click_id >= $1 and site_id = $2 and (flags & $3) = $3
            and (landing_host = $4 or landing_host like '%.' || $4)",
    )
    .bind(ids::first_click_id(since))
    .bind(site_id)
    .bind(flags::UNKNOWN_HOST)
    .bind(host)
    .execute(tx)
    .await
    .context("could not mark the visits of a host as counted")?;
    Ok(())
}

/// Click IDs between these two, both included, that have visits.
pub(super) async fn reported_between(
    store: &Store,
    from: &str,
    to: &str,
) -> Result<HashSet<String>> {
    let rows = sqlx::query("select click_id from visits where click_id >= $1 and click_id <= $2")
        .bind(from)
        .bind(to)
        .fetch_all(store.pool())
        .await
        .context("could not look which visits were reported")?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Writes a provisional visit. Its row is a visit's without the alias.
pub(super) async fn insert_provisional(tx: &mut AnyConnection, row: &Row) -> Result<()> {
    let mut query = sqlx::query(
        "insert into provisional_visits (click_id, sent_at_ms, site_id, at_ms, received_at_ms, previous_click_id, url,
                                         referrer, channel, source, medium, campaign, landing_host, landing_path, device,
                                         flags, visitor, details)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
             on conflict do nothing",
    );
    for ((name, _), cell) in VISITS.columns.iter().zip(&row.cells) {
        query = match cell {
            _ if *name == "alias" => query,
            Cell::Null => query.bind(None::<String>),
            Cell::Int(number) => query.bind(*number),
            Cell::Text(text) => query.bind(text.clone().into_owned()),
        };
    }
    query.execute(tx).await.context("could not keep a provisional visit")?;
    Ok(())
}

/// Moves a provisional visit over to those that count, unless the report of that landing is there.
pub(super) async fn promote(tx: &mut AnyConnection, click_id: &str) -> Result<()> {
    // Whoever replaces it waits for this row, and so sees what came of it.
    sqlx::query("update provisional_visits set flags = flags where click_id = $1")
        .bind(click_id)
        .execute(&mut *tx)
        .await
        .context("could not take hold of a provisional visit")?;
    let moved = sqlx::query(
        "insert into visits (click_id, sent_at_ms, site_id, at_ms, received_at_ms, previous_click_id, url, referrer, channel,
                             source, medium, campaign, landing_host, landing_path, device, flags, visitor, details)
         select click_id, sent_at_ms, site_id, at_ms, received_at_ms, previous_click_id, url, referrer, channel, source, medium,
                campaign, landing_host, landing_path, device, flags, visitor, details
           from provisional_visits p
          where click_id = $1
            and not exists (select 1 from visits v
                             where v.click_id = $1 and v.previous_click_id is distinct from v.click_id)
             on conflict do nothing",
    )
    .bind(click_id)
    .execute(&mut *tx)
    .await
    .context("could not promote a provisional visit")?;
    if moved.rows_affected() == 1 {
        sqlx::query(
            "insert into visit_counts (site_id, quarter, channel, source, medium, campaign, landing_path, device, visits)
             select site_id, at_ms / 900000, channel, coalesce(source, ''), coalesce(medium, ''), coalesce(campaign, ''),
                    coalesce(landing_path, ''), device, 1
               from provisional_visits
              where click_id = $1 and (flags & $2) = 0
                 on conflict (site_id, quarter, channel, source, medium, campaign, landing_path, device)
                 do update set visits = visit_counts.visits + 1",
        )
        .bind(click_id)
        .bind(flags::UNKNOWN_HOST)
        .execute(&mut *tx)
        .await
        .context("could not count a promoted visit")?;
    }
    sqlx::query("delete from provisional_visits where click_id = $1")
        .bind(click_id)
        .execute(tx)
        .await
        .context("could not take away a promoted visit")?;
    Ok(())
}

/// Takes away the provisional visit of a landing whose report has come, counted or not.
pub(super) async fn replace_provisional(store: &Store, click_id: &ClickId) -> Result<()> {
    let known = sqlx::query(
        "select click_id from provisional_visits where click_id = $1
          union all
         select click_id from visits where click_id = $1 and sent_at_ms = $2",
    )
    .bind(click_id.as_str())
    .bind(UNSENT_MS)
    .fetch_optional(store.pool())
    .await
    .context("could not look for a provisional visit")?;
    if known.is_none() {
        return Ok(());
    }
    let mut tx = store.begin().await?;
    sqlx::query("delete from provisional_visits where click_id = $1")
        .bind(click_id.as_str())
        .execute(&mut *tx)
        .await
        .context("could not take away a provisional visit")?;
    // Its report has another browser's time, but counts in the same quarter hour, under words of its own.
    sqlx::query(
        "update visit_counts set visits = visits - 1
          where (site_id, quarter, channel, source, medium, campaign, landing_path, device) in
                (select site_id, at_ms / 900000, channel, coalesce(source, ''), coalesce(medium, ''),
                        coalesce(campaign, ''), coalesce(landing_path, ''), device
                   from visits
                  where click_id = $1 and sent_at_ms = $2 and (flags & $3) = 0)",
    )
    .bind(click_id.as_str())
    .bind(UNSENT_MS)
    .bind(flags::UNKNOWN_HOST)
    .execute(&mut *tx)
    .await
    .context("could not count a visit once")?;
    sqlx::query("delete from visits where click_id = $1 and sent_at_ms = $2")
        .bind(click_id.as_str())
        .bind(UNSENT_MS)
        .execute(&mut *tx)
        .await
        .context("could not take away a promoted visit")?;
    tx.commit().await
}

/// Forgets provisional visits whose click ID was minted before.
pub(super) async fn delete_provisional(tx: &mut AnyConnection, until: Timestamp) -> Result<u64> {
    let gone = sqlx::query("delete from provisional_visits where click_id < $1")
        .bind(ids::first_click_id(until))
        .execute(tx)
        .await
        .context("could not forget provisional visits")?;
    Ok(gone.rows_affected())
}

pub(super) async fn last_seen_before(
    tx: &mut AnyConnection,
    until: Timestamp,
    after: &str,
    limit: i64,
) -> Result<Vec<OldClickId>> {
    let rows = sqlx::query(
        "select click_id, min(site_id) as site_id, count(*) as visits, min(at_ms) as first_ms, max(at_ms) as last_ms
           from visits
          where click_id > $1 and click_id < $2
          group by click_id
         having max(at_ms) < $3
          order by click_id
          limit $4",
    )
    .bind(after)
    .bind(ids::first_click_id(until))
    .bind(until.as_ms())
    .bind(limit)
    .fetch_all(tx)
    .await
    .context("could not look for old visits")?;
    rows.iter()
        .map(|row| {
            Ok(OldClickId {
                click_id: row.try_get("click_id")?,
                site_id: row.try_get("site_id")?,
                visits: row.try_get("visits")?,
                first_at: Timestamp::from_ms(row.try_get("first_ms")?),
                last_at: Timestamp::from_ms(row.try_get("last_ms")?),
            })
        })
        .collect()
}

pub(super) async fn delete_old(
    tx: &mut AnyConnection,
    until: Timestamp,
    from: &str,
    to: &str,
) -> Result<()> {
    // Between old click IDs stand some that were seen again since.
    for statement in [
        "delete from visit_notes
          where click_id in (select click_id from visits
                              where click_id >= $1 and click_id <= $2
                              group by click_id
                             having max(at_ms) < $3)",
        "delete from visit_sessions
          where click_id in (select click_id from visits
                              where click_id >= $1 and click_id <= $2
                              group by click_id
                             having max(at_ms) < $3)",
        "delete from visit_notes
          where click_id in (select alias from visits v
                              where v.click_id >= $1 and v.click_id <= $2 and v.alias is not null
                                and not exists (select 1 from visits w
                                                 where w.click_id = v.click_id and w.at_ms >= $3))",
        "delete from visits
          where click_id in (select click_id from visits
                              where click_id >= $1 and click_id <= $2
                              group by click_id
                             having max(at_ms) < $3)",
    ] {
        sqlx::query(statement)
            .bind(from)
            .bind(to)
            .bind(until.as_ms())
            .execute(&mut *tx)
            .await
            .context("could not delete old visits")?;
    }
    Ok(())
}

/// The signed click ID that a presented one stands for.
pub(super) async fn signed_for(store: &Store, alias: &ClickId) -> Result<Option<ClickId>> {
    let mut connection = store.pool().acquire().await?;
    alias_target(&mut connection, alias).await
}

async fn alias_target(tx: &mut AnyConnection, alias: &ClickId) -> Result<Option<ClickId>> {
    let row = sqlx::query("select click_id from visits where alias = $1 order by click_id limit 1")
        .bind(alias.as_str())
        .fetch_optional(tx)
        .await?;
    row.map(|row| click_id(&row, "click_id")).transpose()
}

pub(super) async fn find(tx: &mut AnyConnection, id: &ClickId) -> Result<Option<Visit>> {
    let signed = if id.is_client_made() { alias_target(tx, id).await? } else { Some(id.clone()) };
    let Some(signed) = signed else { return Ok(None) };
    // Of one moment, what was reported beats what was only heard of. The browser's time is last: whoever knows a click ID could choose it.
    let row = sqlx::query(
        "select click_id, site_id, at_ms, previous_click_id, channel, source, medium, campaign, landing_path, device,
                flags & 8192 as provisional, received_at_ms, sent_at_ms
           from visits
          where click_id = $1
          union all
         select click_id, site_id, at_ms, previous_click_id, channel, source, medium, campaign, landing_path, device,
                flags & 8192, received_at_ms, sent_at_ms
           from provisional_visits
          where click_id = $1
          order by at_ms, provisional, received_at_ms, sent_at_ms
          limit 1",
    )
    .bind(signed.as_str())
    .fetch_optional(tx)
    .await
    .context("could not look for a visit")?;
    row.map(|row| visit(&row)).transpose()
}

pub(super) async fn facts(tx: &mut AnyConnection, click_id: &ClickId) -> Result<Value> {
    let row = sqlx::query(
        "select at_ms, url, referrer, channel, source, medium, campaign, landing_path, device, flags, details,
                flags & 8192 as provisional, received_at_ms, sent_at_ms
           from visits
          where click_id = $1
          union all
         select at_ms, url, referrer, channel, source, medium, campaign, landing_path, device, flags, details,
                flags & 8192, received_at_ms, sent_at_ms
           from provisional_visits
          where click_id = $1
          order by at_ms, provisional, received_at_ms, sent_at_ms
          limit 1",
    )
    .bind(click_id.as_str())
    .fetch_optional(tx)
    .await
    .context("could not read a visit")?;
    let Some(row) = row else { return Ok(Value::Null) };
    let details: String = row.try_get("details")?;
    let details: Value = serde_json::from_str(&details).context("a visit's details")?;
    let text = |column: &str| row.try_get::<Option<String>, _>(column).map(Value::from);
    let (at, flags): (i64, i64) = (row.try_get("at_ms")?, row.try_get("flags")?);
    let mut facts = Map::new();
    facts.insert("click_id".to_owned(), click_id.as_str().into());
    facts.insert("at".to_owned(), Timestamp::from_ms(at).to_rfc3339().into());
    facts.insert("gpc".to_owned(), (flags & flags::GPC != 0).into());
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
    // `_fbp` is `fbp` here: expressions read better without the line.
    for (name, value) in details["ad_cookies"].as_object().into_iter().flatten() {
        facts.insert(name.trim_start_matches('_').to_owned(), value.clone());
    }
    Ok(Value::Object(facts))
}

fn visit(row: &AnyRow) -> Result<Visit> {
    let previous: Option<String> = row.try_get("previous_click_id")?;
    Ok(Visit {
        click_id: click_id(row, "click_id")?,
        site_id: row.try_get("site_id")?,
        at: Timestamp::from_ms(row.try_get("at_ms")?),
        previous: previous.as_deref().and_then(ClickId::parse),
        channel: row.try_get("channel")?,
        source: row.try_get("source")?,
        medium: row.try_get("medium")?,
        campaign: row.try_get("campaign")?,
        landing_path: row.try_get("landing_path")?,
        device: row.try_get("device")?,
        is_provisional: row.try_get::<i64, _>("provisional")? != 0,
    })
}

fn click_id(row: &AnyRow, column: &str) -> Result<ClickId> {
    let text: String = row.try_get(column)?;
    ClickId::parse(&text).with_context(|| format!("{text:?} is not a click ID"))
}

pub(super) async fn insert_note(
    tx: &mut AnyConnection,
    now: Timestamp,
    click_id: &ClickId,
    anytrack_click_id: &str,
) -> Result<()> {
    sqlx::query(
        "insert into visit_notes (anytrack_click_id, click_id, at_ms)
         select $1, $2, $3
          where (select count(*) from visit_notes where click_id = $2) < $4
             on conflict do nothing",
    )
    .bind(anytrack_click_id)
    .bind(click_id.as_str())
    .bind(now.as_ms())
    .bind(MAX_NOTES)
    .execute(tx)
    .await
    .context("could not keep a note")?;
    Ok(())
}

pub(super) async fn click_id_of_note(
    tx: &mut AnyConnection,
    anytrack_click_id: &str,
) -> Result<Option<ClickId>> {
    // Only notes whose visit has arrived; conversion's look for late ones asks the same.
    let row = sqlx::query(
        "select n.click_id
           from visit_notes n
          where n.anytrack_click_id = $1
            and (exists (select 1 from visits v where v.click_id = n.click_id)
                 or (substr(n.click_id, 1, 4) = 'ck_z' and exists (select 1 from visits v where v.alias = n.click_id)))
          order by n.at_ms, n.click_id
          limit 1",
    )
    .bind(anytrack_click_id)
    .fetch_optional(tx)
    .await?;
    row.map(|row| self::click_id(&row, "click_id")).transpose()
}

pub(super) async fn insert_session(
    tx: &mut AnyConnection,
    now: Timestamp,
    click_id: &ClickId,
    session_id: &str,
) -> Result<()> {
    sqlx::query(
        "insert into visit_sessions (session_id, click_id, at_ms)
         select $1, $2, $3
          where (select count(*) from visit_sessions where click_id = $2) < $4
             on conflict do nothing",
    )
    .bind(session_id)
    .bind(click_id.as_str())
    .bind(now.as_ms())
    .bind(MAX_SESSIONS)
    .execute(tx)
    .await
    .context("could not keep whose checkout it was")?;
    Ok(())
}

pub(super) async fn click_id_of_session(
    tx: &mut AnyConnection,
    session_id: &str,
) -> Result<Option<ClickId>> {
    let row = sqlx::query(
        "select click_id from visit_sessions where session_id = $1 order by at_ms, click_id limit 1",
    )
    .bind(session_id)
    .fetch_optional(tx)
    .await
    .context("could not look whose checkout it was")?;
    row.map(|row| self::click_id(&row, "click_id")).transpose()
}

pub(super) async fn note_of(tx: &mut AnyConnection, click_id: &ClickId) -> Result<Option<String>> {
    let row = sqlx::query(
        "select anytrack_click_id
           from visit_notes
          where click_id = $1
             or click_id in (select alias from visits where click_id = $1 and substr(alias, 1, 4) = 'ck_z')
          order by at_ms desc, anytrack_click_id
          limit 1",
    )
    .bind(click_id.as_str())
    .fetch_optional(tx)
    .await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

pub(super) async fn insert_event(
    tx: &mut AnyConnection,
    now: Timestamp,
    site: &Site,
    sent: &Sent<'_>,
    event: &Event<'_>,
) -> Result<bool> {
    let inserted = sqlx::query(
        "insert into page_events (id, site_id, click_id, sent_at_ms, name, received_at_ms, url, properties)
         values ($1, $2, $3, $4, $5, $6, $7, $8)
             on conflict do nothing",
    )
    .bind(ids::new_record_id("pev_", now))
    .bind(&site.id)
    .bind(sent.click_id.as_str())
    .bind(sent.sent_at_ms)
    .bind(&*event.name)
    .bind(now.as_ms())
    .bind(event.url.as_deref())
    .bind(serde_json::to_string(&event.properties)?)
    .execute(tx)
    .await
    .context("could not keep an event of a page")?;
    Ok(inserted.rows_affected() == 1)
}

pub(super) async fn events_waiting(
    store: &Store,
    now: Timestamp,
    limit: i64,
) -> Result<Vec<WaitingEvent>> {
    let rows = sqlx::query(
        "select id, site_id, click_id, sent_at_ms, name, received_at_ms, url, properties, attempts
           from page_events
          where conversion_id is null and failed_at_ms is null and due_at_ms <= $1
          order by received_at_ms, id
          limit $2",
    )
    .bind(now.as_ms())
    .bind(limit)
    .fetch_all(store.pool())
    .await
    .context("could not look for events of pages")?;
    let waiting = |row: &AnyRow| {
        let (id, attempts) = (row.try_get("id")?, row.try_get("attempts")?);
        Ok(WaitingEvent { id, attempts, event: page_event(row) })
    };
    rows.iter().map(waiting).collect()
}

pub(super) async fn put_event_off(
    tx: &mut AnyConnection,
    now: Timestamp,
    id: &str,
    again_at: Option<Timestamp>,
    error: &str,
) -> Result<()> {
    sqlx::query(
        "update page_events
            set attempts = attempts + 1, error = $1, due_at_ms = $2, failed_at_ms = $3
          where id = $4 and conversion_id is null",
    )
    .bind(error)
    .bind(again_at.unwrap_or(now).as_ms())
    .bind(again_at.is_none().then_some(now.as_ms()))
    .bind(id)
    .execute(tx)
    .await
    .context("could not put an event of a page off")?;
    Ok(())
}

pub(super) async fn rerun_event(tx: &mut AnyConnection, now: Timestamp, id: &str) -> Result<bool> {
    let done = sqlx::query(
        "update page_events set attempts = 0, due_at_ms = $1, failed_at_ms = null
          where id = $2 and failed_at_ms is not null",
    )
    .bind(now.as_ms())
    .bind(id)
    .execute(tx)
    .await
    .context("could not make an event of a page due again")?;
    Ok(done.rows_affected() == 1)
}

pub(super) async fn events_after(
    store: &Store,
    after: Option<&PageEvent>,
    limit: i64,
) -> Result<Vec<PageEvent>> {
    let (at, id) = after.map_or((i64::MIN, ""), |it| (it.received_at.as_ms(), it.id.as_str()));
    let rows = sqlx::query(
        "select id, site_id, click_id, sent_at_ms, name, received_at_ms, url, properties
           from page_events
          where conversion_id is not null and (received_at_ms, id) > ($1, $2)
          order by received_at_ms, id
          limit $3",
    )
    .bind(at)
    .bind(id)
    .bind(limit)
    .fetch_all(store.pool())
    .await
    .context("could not read the events of pages")?;
    rows.iter().map(page_event).collect()
}

fn page_event(row: &AnyRow) -> Result<PageEvent> {
    let properties: String = row.try_get("properties")?;
    let properties: BTreeMap<String, String> =
        serde_json::from_str(&properties).context("the properties of a page event")?;
    Ok(PageEvent {
        id: row.try_get("id")?,
        site_id: row.try_get("site_id")?,
        click_id: click_id(row, "click_id")?,
        sent_at_ms: row.try_get("sent_at_ms")?,
        name: row.try_get("name")?,
        received_at: Timestamp::from_ms(row.try_get("received_at_ms")?),
        url: row.try_get("url")?,
        properties,
    })
}

pub(super) async fn settle_event(
    tx: &mut AnyConnection,
    id: &str,
    conversion_id: &str,
) -> Result<bool> {
    let settled = sqlx::query(
        "update page_events set conversion_id = $1, error = null, failed_at_ms = null
          where id = $2 and conversion_id is null",
    )
    .bind(conversion_id)
    .bind(id)
    .execute(tx)
    .await
    .context("could not settle an event of a page")?;
    Ok(settled.rows_affected() == 1)
}
