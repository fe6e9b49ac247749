//! SQL of a replay.
//! In: a store, or its shadow. Out: what the ledger and the events say there, to be compared; and events put back. Private to this room.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Column as _, Row as _};

use super::{Line, Pair, Reread};
use crate::clock::Timestamp;
use crate::conversion::IS_DUE;
use crate::store::Shadow;

/// What a line may differ in without saying anything else: our own numbers and times.
const NOT_COMPARED: [&str; 7] =
    ["id", "account", "recorded_at_ms", "updated_at_ms", "owed_from_ms", "ours", "rebuilt"];

/// Lets the copied events wait to be processed, oldest first; also those that a machine with a faster clock received.
pub(super) async fn forget_outcomes(shadow: &Shadow, now: Timestamp) -> Result<()> {
    let mut tx = shadow.begin().await?;
    sqlx::query(
        "update stripe_events
            set state = 'received', reason = null, error = null, note = null, conversion_id = null, attempts = 0,
                due_at_ms = case when received_at_ms > $1 then $1 else received_at_ms end,
                -- What was counted stays so, whatever its endpoint is set to now.
                accepted_at_ms = case when state = 'held' then accepted_at_ms else coalesce(accepted_at_ms, received_at_ms) end,
                fetch_path = null, snapshot_event = null",
    )
    .bind(now.as_ms())
    .execute(&mut *tx)
    .await?;
    tx.commit().await
}

/// Which rebuilt payment is which of ours; and the ledger and the ends of events as they are when the replay begins, because the server goes on.
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

/// Fills them, and copies the events that have ended. What waits to be processed is not in the ledger either.
pub(super) const PICTURE: [&str; 6] = [
    "insert into stripe_events select * from real_stripe_events where state <> 'received'",
    "insert into then_events select id, state, reason, error from real_stripe_events where state <> 'received'",
    "insert into then_payments select id, facts, merged_into from real_payments",
    "insert into then_conversions select * from real_conversions",
    "insert into then_touches select * from real_touches",
    "insert into then_objects select * from real_stripe_objects",
];

/// What was changed since then: payments that were here, and rebuilt ones that have come here meanwhile. Also payments that the server is about
/// to change, because the visit they waited for is stored and their match is not, with those that may be matched through them. One statement,
/// so that a match which the server makes meanwhile is seen as either of the two.
pub(super) async fn moved(shadow: &Shadow) -> Result<BTreeSet<String>> {
    let rows = sqlx::query(AssertSqlSafe(format!(
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
          where {IS_DUE}
          union
         select borrower.conversion_id
           from real_waits w
           join replay_pairs p on p.ours = w.conversion_id
           join stripe_objects lender on lender.conversion_id = p.rebuilt
           join stripe_objects borrower on borrower.account = lender.account and borrower.object_id = lender.object_id
                                       and borrower.role = 'lineage'
          where {IS_DUE}",
    )))
    .fetch_all(shadow.pool())
    .await
    .context("could not see what was changed meanwhile")?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Finds out which rebuilt payment is which of ours: the one that an object of Stripe's names in both.
pub(super) async fn pair(shadow: &Shadow) -> Result<()> {
    let mut tx = shadow.begin().await?;
    sqlx::query(
        "insert into replay_pairs (rebuilt, ours)
         select min(named.rebuilt), named.ours
           from (select o.conversion_id as rebuilt, min(r.conversion_id) as ours
                   from stripe_objects o
                   join then_objects r on r.account = o.account and r.object_id = o.object_id and r.role = 'identity'
                  where o.role = 'identity'
                  group by o.conversion_id) named
          group by named.ours",
    )
    .execute(&mut *tx)
    .await
    .context("could not pair what was rebuilt with what is here")?;
    tx.commit().await
}

/// The next rebuilt lines after an ID, each beside the one that is here. Only lines that are made from raw events and requests.
pub(super) async fn pairs(shadow: &Shadow, after: &str, limit: i64) -> Result<Vec<Pair>> {
    let rows = sqlx::query(
        "select c.*, p.ours
           from conversions c
           join sources s on s.id = c.source_id
           left join replay_pairs p on p.rebuilt = c.id
          where s.kind in ('stripe', 'custom', 'page') and c.id > $1
          order by c.id
          limit $2",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(shadow.pool())
    .await
    .context("could not read the rebuilt conversions")?;
    let Some(last) = rows.last() else { return Ok(Vec::new()) };
    let last: String = last.try_get("id")?;
    let mut here = BTreeMap::new();
    let ours = sqlx::query(
        "select c.*, p.rebuilt
           from replay_pairs p
           join then_conversions c on c.id = p.ours
           join sources s on s.id = c.source_id
          where s.kind in ('stripe', 'custom', 'page') and p.rebuilt > $1 and p.rebuilt <= $2",
    );
    let ours = ours.bind(after).bind(&last).fetch_all(shadow.pool()).await;
    for row in ours.context("could not read the conversions")? {
        here.insert(row.try_get::<String, _>("rebuilt")?, line(&row)?);
    }
    let mut pairs = Vec::new();
    for row in &rows {
        let id: String = row.try_get("id")?;
        let (rebuilt, ours) = (line(row)?, row.try_get("ours")?);
        pairs.push(Pair { here: here.remove(&id), rebuilt_id: id, rebuilt, ours });
    }
    let touches = sqlx::query(
        "select conversion_id, click_id from touches
          where conversion_id > $1 and conversion_id <= $2
          order by conversion_id, position",
    );
    let touches = touches.bind(after).bind(&last).fetch_all(shadow.pool()).await;
    let touches = ways(&touches.context("could not read the rebuilt touches")?)?;
    let then_touches = sqlx::query(
        "select p.rebuilt, t.click_id
           from replay_pairs p
           join then_touches t on t.conversion_id = p.ours
          where p.rebuilt > $1 and p.rebuilt <= $2
          order by p.rebuilt, t.position",
    );
    let then_touches = then_touches.bind(after).bind(&last).fetch_all(shadow.pool()).await;
    let then_touches = ways(&then_touches.context("could not read the touches")?)?;
    for pair in &mut pairs {
        pair.rebuilt.add_way(touches.get(&pair.rebuilt_id));
        if let Some(here) = &mut pair.here {
            here.add_way(then_touches.get(&pair.rebuilt_id));
        }
    }
    Ok(pairs)
}

/// The touches of each conversion as one text.
fn ways(rows: &[AnyRow]) -> Result<BTreeMap<String, String>> {
    let mut ways = BTreeMap::<String, String>::new();
    for row in rows {
        let (id, click_id): (String, String) = (row.try_get(0)?, row.try_get(1)?);
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

/// Lines here that nothing rebuilt is, by ID.
pub(super) async fn unfounded(shadow: &Shadow) -> Result<Vec<(String, Line)>> {
    let rows = sqlx::query(
        "select c.*
           from then_conversions c
           join sources s on s.id = c.source_id
          where s.kind in ('stripe', 'custom', 'page')
            and not exists (select 1
                              from replay_pairs p
                              join conversions r on r.id = p.rebuilt
                             where p.ours = c.id)",
    )
    .fetch_all(shadow.pool())
    .await
    .context("could not look for conversions that no event makes")?;
    let mut lines = Vec::new();
    for row in &rows {
        let (id, mut line): (String, Line) = (row.try_get("id")?, line(row)?);
        let touches = sqlx::query(
            "select conversion_id, click_id from then_touches where conversion_id = $1 order by position",
        );
        let way = ways(&touches.bind(&id).fetch_all(shadow.pool()).await?)?;
        line.add_way(way.get(&id));
        lines.push((id, line));
    }
    Ok(lines)
}

fn line(row: &AnyRow) -> Result<Line> {
    let mut fields = BTreeMap::new();
    for column in row.columns() {
        let name = column.name();
        if NOT_COMPARED.contains(&name) {
            continue;
        }
        let text = match row.try_get::<Option<String>, _>(name) {
            Ok(text) => text,
            Err(_) => row.try_get::<Option<i64>, _>(name)?.map(|number| number.to_string()),
        };
        if let Some(text) = text {
            fields.insert(name.to_owned(), text);
        }
    }
    Ok(Line { account: row.try_get("account")?, fields })
}

/// Events that end otherwise than before. One that waits to be processed, or whose fetched object was stored already, is none.
pub(super) async fn reread(shadow: &Shadow) -> Result<Vec<Reread>> {
    let rows = sqlx::query(
        "select e.id, e.type, r.state as was_state, r.reason as was_reason, e.state, e.reason,
                coalesce(p.ours, e.conversion_id) as conversion_id
           from stripe_events e
           join then_events r on r.id = e.id
           left join replay_pairs p on p.rebuilt = e.conversion_id
          where e.state <> 'received'
            and (e.state <> r.state or e.reason is distinct from r.reason or e.error is distinct from r.error)
          order by e.id",
    )
    .fetch_all(shadow.pool())
    .await
    .context("could not compare the events")?;
    rows.iter()
        .map(|row| {
            Ok(Reread {
                id: row.try_get("id")?,
                kind: row.try_get("type")?,
                before: (row.try_get("was_state")?, row.try_get("was_reason")?),
                now: (row.try_get("state")?, row.try_get("reason")?),
                conversion_id: row.try_get("conversion_id")?,
            })
        })
        .collect()
}

/// Lets an event be processed once more, by the worker and in its usual way.
pub(super) async fn put_back(tx: &mut AnyConnection, now: Timestamp, id: &str) -> Result<()> {
    sqlx::query(
        "update stripe_events
            set state = 'received', reason = null, error = null, due_at_ms = $1
          where id = $2",
    )
    .bind(now.as_ms())
    .bind(id)
    .execute(tx)
    .await
    .context("could not put an event back")?;
    Ok(())
}
