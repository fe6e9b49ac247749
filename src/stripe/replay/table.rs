//! SQL of a replay.
//! Takes a store or its scratch tables; returns conversions and event states to compare, and queues
//! events again. Private to this module.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use sqlx::AnyConnection;

use super::{Line, Pair, Reread};
use crate::clock::Timestamp;
use crate::conversion::IS_DUE;
use crate::store::{Row, Shadow, Text, sql};

/// Columns that may differ: our own IDs and times.
const NOT_COMPARED: [&str; 7] =
    ["id", "account", "recorded_at_ms", "updated_at_ms", "owed_from_ms", "ours", "rebuilt"];

/// Queues the copied events, oldest first, including those that a machine with a faster clock
/// received.
pub(super) async fn forget_outcomes(shadow: &Shadow, now: Timestamp) -> Result<()> {
    let mut tx = shadow.begin().await?;
    sql("update stripe_events
            set state = 'received', reason = null, error = null, note = null, conversion_id = null, attempts = 0,
                due_at_ms = case when received_at_ms > :now then :now else received_at_ms end,
                -- Events that counted still do, whatever the settings of their endpoint are now.
                accepted_at_ms = case when state = 'held' then accepted_at_ms else coalesce(accepted_at_ms, received_at_ms) end,
                fetch_path = null, snapshot_event = null")
    .set("now", now)
    .execute(&mut *tx)
    .await?;
    tx.commit().await
}

/// Scratch tables: which rebuilt payment is which of ours, and copies of the ledger and of event
/// states as of the start, because the server keeps running.
pub(super) const OWN_TABLES: [&str; 11] = [
    "create temp table replay_pairs (rebuilt text not null primary key, ours text not null unique)",
    "create temp table then_payments as select id, facts, merged_into from real_payments where 1 = 0",
    "create index then_payments_id on then_payments (id)",
    "create temp table then_conversions as select * from real_conversions where 1 = 0",
    "create index then_conversions_id on then_conversions (id)",
    "create temp table then_touches as select * from real_touches where 1 = 0",
    "create index then_touches_way on then_touches (conversion_id, position)",
    "create temp table then_objects as select * from real_stripe_objects where 1 = 0",
    "create index then_objects_name on then_objects (account, object_id)",
    "create temp table then_events as select id, state, reason, error from real_stripe_events where 1 = 0",
    "create index then_events_id on then_events (id)",
];

/// Fills the scratch tables, and copies the events that have ended. Events that wait to be
/// processed are not in the ledger either.
pub(super) const PICTURE: [&str; 6] = [
    "insert into stripe_events select * from real_stripe_events where state <> 'received'",
    "insert into then_events select id, state, reason, error from real_stripe_events where state <> 'received'",
    "insert into then_payments select id, facts, merged_into from real_payments",
    "insert into then_conversions select * from real_conversions",
    "insert into then_touches select * from real_touches",
    "insert into then_objects select * from real_stripe_objects",
];

/// The payments that were changed since the start, and rebuilt ones that arrived here meanwhile.
/// Also payments that the server is about to change, because the visit they waited for is stored
/// but not matched yet, and those that may be matched through them. This is one statement, so that
/// a match that the server makes meanwhile is seen as one or the other.
pub(super) async fn moved(shadow: &Shadow) -> Result<BTreeSet<String>> {
    let text = Text::from(
        "select t.id
           from then_payments t
           left join real_payments r on r.id = t.id
           left join then_conversions b on b.id = t.id
           left join real_conversions c on c.id = t.id
          where r.id is null or r.facts <> t.facts or r.merged_into is distinct from t.merged_into
             or b.updated_at_ms is distinct from c.updated_at_ms or b.status is distinct from c.status
             or b.site_id is distinct from c.site_id or b.click_id is distinct from c.click_id
             or b.match_by is distinct from c.match_by or b.match_reason is distinct from c.match_reason
          union
         select a.conversion_id
           from then_touches a
          where not exists (select 1 from real_touches b
                             where b.conversion_id = a.conversion_id and b.position = a.position
                               and b.click_id = a.click_id)
          union
         select a.conversion_id
           from real_touches a
          where not exists (select 1 from then_touches b
                             where b.conversion_id = a.conversion_id and b.position = a.position
                               and b.click_id = a.click_id)
          union
         select o.conversion_id
           from stripe_objects o
           join real_stripe_objects r on r.account = o.account and r.object_id = o.object_id and r.role = 'identity'
          where o.role = 'identity'
            and not exists (select 1 from then_objects t
                             where t.account = r.account and t.object_id = r.object_id and t.role = 'identity'
                               and t.conversion_id = r.conversion_id)
          union
         select w.conversion_id
           from real_waits w
          where ",
    ) + IS_DUE
        + " union
         select dependent.conversion_id
           from real_waits w
           join replay_pairs p on p.ours = w.conversion_id
           join stripe_objects earlier on earlier.conversion_id = p.rebuilt
           join stripe_objects dependent on dependent.account = earlier.account and dependent.object_id = earlier.object_id
                                       and dependent.role = 'lineage'
          where "
        + IS_DUE;
    let found: Vec<_> = sql(text)
        .values(shadow.pool())
        .await
        .context("could not read what was changed meanwhile")?;
    Ok(found.into_iter().collect())
}

/// Finds which rebuilt payment is which of ours: both have the same Stripe object.
pub(super) async fn pair(shadow: &Shadow) -> Result<()> {
    let mut tx = shadow.begin().await?;
    sql("insert into replay_pairs (rebuilt, ours)
         select min(named.rebuilt), named.ours
           from (select o.conversion_id as rebuilt, min(r.conversion_id) as ours
                   from stripe_objects o
                   join then_objects r on r.account = o.account and r.object_id = o.object_id and r.role = 'identity'
                  where o.role = 'identity'
                  group by o.conversion_id) named
          group by named.ours")
    .execute(&mut *tx)
    .await
    .context("could not pair rebuilt payments with those of the ledger")?;
    tx.commit().await
}

/// The next rebuilt conversions after an ID, each with the one here. Only conversions that are
/// created from raw events and requests.
pub(super) async fn pairs(shadow: &Shadow, after: &str, limit: i64) -> Result<Vec<Pair>> {
    let rows = sql("select c.*, p.ours
           from conversions c
           join sources s on s.id = c.source_id
           left join replay_pairs p on p.rebuilt = c.id
          where s.kind in ('stripe', 'custom', 'page') and c.id > :after
          order by c.id
          limit :limit")
    .set("after", after)
    .set("limit", limit)
    .fetch_all(shadow.pool())
    .await
    .context("could not read the rebuilt conversions")?;
    let Some(last) = rows.last() else { return Ok(Vec::new()) };
    let last: String = last.get("id")?;
    let mut here = BTreeMap::new();
    let ours = sql(
        "select c.*, p.rebuilt
           from replay_pairs p
           join then_conversions c on c.id = p.ours
           join sources s on s.id = c.source_id
          where s.kind in ('stripe', 'custom', 'page') and p.rebuilt > :after and p.rebuilt <= :last",
    );
    let ours = ours.set("after", after).set("last", &last).fetch_all(shadow.pool()).await;
    for row in ours.context("could not read the conversions")? {
        here.insert(row.get::<String>("rebuilt")?, line(&row)?);
    }
    let mut pairs = Vec::new();
    for row in &rows {
        let id: String = row.get("id")?;
        let (rebuilt, ours) = (line(row)?, row.get("ours")?);
        pairs.push(Pair { here: here.remove(&id), rebuilt_id: id, rebuilt, ours });
    }
    let touches = sql("select conversion_id, click_id from touches
          where conversion_id > :after and conversion_id <= :last
          order by conversion_id, position");
    let touches = touches.set("after", after).set("last", &last).fetch_all(shadow.pool()).await;
    let touches = ways(&touches.context("could not read the rebuilt touchpoints")?)?;
    let then_touches = sql("select p.rebuilt, t.click_id
           from replay_pairs p
           join then_touches t on t.conversion_id = p.ours
          where p.rebuilt > :after and p.rebuilt <= :last
          order by p.rebuilt, t.position");
    let then_touches =
        then_touches.set("after", after).set("last", &last).fetch_all(shadow.pool()).await;
    let then_touches = ways(&then_touches.context("could not read the touchpoints")?)?;
    for pair in &mut pairs {
        pair.rebuilt.add_way(touches.get(&pair.rebuilt_id));
        if let Some(here) = &mut pair.here {
            here.add_way(then_touches.get(&pair.rebuilt_id));
        }
    }
    Ok(pairs)
}

/// The touchpoints of each conversion as one text.
fn ways(rows: &[Row]) -> Result<BTreeMap<String, String>> {
    let mut ways = BTreeMap::<String, String>::new();
    for row in rows {
        let (id, click_id): (String, String) = (row.get(0)?, row.get(1)?);
        let way = ways.entry(id).or_default();
        if !way.is_empty() {
            way.push_str(" → ");
        }
        way.push_str(&click_id);
    }
    Ok(ways)
}

impl Line {
    fn add_way(&mut self, way: Option<&String>) {
        self.fields.extend(way.map(|way| ("touches".to_owned(), way.clone())));
    }
}

/// Conversions here without a rebuilt one, with their IDs.
pub(super) async fn unfounded(shadow: &Shadow) -> Result<Vec<(String, Line)>> {
    let rows = sql("select c.*
           from then_conversions c
           join sources s on s.id = c.source_id
          where s.kind in ('stripe', 'custom', 'page')
            and not exists (select 1
                              from replay_pairs p
                              join conversions r on r.id = p.rebuilt
                             where p.ours = c.id)")
    .fetch_all(shadow.pool())
    .await
    .context("could not look for conversions that no event creates")?;
    let mut lines = Vec::new();
    for row in &rows {
        let (id, mut line): (String, Line) = (row.get("id")?, line(row)?);
        let touches = sql(
            "select conversion_id, click_id from then_touches where conversion_id = :id order by position",
        );
        let way = ways(&touches.set("id", &id).fetch_all(shadow.pool()).await?)?;
        line.add_way(way.get(&id));
        lines.push((id, line));
    }
    Ok(lines)
}

fn line(row: &Row) -> Result<Line> {
    let mut fields = BTreeMap::new();
    for name in row.names() {
        if NOT_COMPARED.contains(&name) {
            continue;
        }
        let text = match row.get::<Option<String>>(name) {
            Ok(text) => text,
            Err(_) => row.get::<Option<i64>>(name)?.map(|number| number.to_string()),
        };
        if let Some(text) = text {
            fields.insert(name.to_owned(), text);
        }
    }
    Ok(Line { account: row.get("account")?, fields })
}

/// Events with another final state than before. An event that waits to be processed, or whose
/// fetched object was already stored, is left out.
pub(super) async fn reread(shadow: &Shadow) -> Result<Vec<Reread>> {
    let rows = sql("select e.id, e.type, r.state as was_state, r.reason as was_reason, e.state, e.reason,
                coalesce(p.ours, e.conversion_id) as conversion_id
           from stripe_events e
           join then_events r on r.id = e.id
           left join replay_pairs p on p.rebuilt = e.conversion_id
          where e.state <> 'received'
            and (e.state <> r.state or e.reason is distinct from r.reason or e.error is distinct from r.error)
          order by e.id")
    .fetch_all(shadow.pool())
    .await
    .context("could not compare the events")?;
    rows.iter()
        .map(|row| {
            Ok(Reread {
                id: row.get("id")?,
                kind: row.get("type")?,
                before: (row.get("was_state")?, row.get("was_reason")?),
                now: (row.get("state")?, row.get("reason")?),
                conversion_id: row.get("conversion_id")?,
            })
        })
        .collect()
}

/// Queues an event to be processed again by the worker.
pub(super) async fn put_back(tx: &mut AnyConnection, now: Timestamp, id: &str) -> Result<()> {
    sql("update stripe_events
            set state = 'received', reason = null, error = null, due_at_ms = :now
          where id = :id")
    .set("now", now)
    .set("id", id)
    .execute(tx)
    .await
    .context("could not queue an event")?;
    Ok(())
}
