//! Retention: visits that led to nothing go after a time.
//! In: until when. Out: how many visits of which site go or went, and from when they were.
//! Promise: no visit goes that a conversion, its way, an abandoned checkout, a match by hand or a waiting payment needs; nobody waits long,
//! because it goes in small steps.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;

use super::{table, turn};
use crate::clock::Timestamp;
use crate::registration;
use crate::store::{AnyConnection, Store};
use crate::visit::{self, OldClickId};

/// Click IDs in one transaction: the visit writer and the ledger wait no longer than that.
const CLICK_IDS_AT_A_TIME: i64 = 500;
/// Between two transactions, so that whoever waits in another process gets his turn too.
const PAUSE: Duration = Duration::from_millis(20);

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prune {
    /// Only say what would go.
    Count,
    /// Let it go.
    Delete,
}

/// What goes, or went, of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// How many.
    pub visits: i64,
    /// The earliest.
    pub oldest: Timestamp,
    /// The latest.
    pub newest: Timestamp,
}

/// Lets go of the visits of click IDs that were last seen before `until` and that the ledger does not need; by `site_…`.
pub(crate) async fn prune(
    store: &Store,
    until: Timestamp,
    wanted: Prune,
) -> Result<BTreeMap<String, Pruned>> {
    let (mut pruned, mut after) = (BTreeMap::new(), String::new());
    loop {
        let step = match wanted {
            Prune::Count => step(&mut *store.connection().await?, &after, until, wanted).await?,
            Prune::Delete => {
                let mut tx = store.begin().await?;
                // No payment may be judged between the look and the deletion.
                turn::take_all(&mut tx).await?;
                let step = step(&mut tx, &after, until, wanted).await?;
                tx.commit().await?;
                step
            }
        };
        for old in step.goes {
            add(&mut pruned, old);
        }
        match step.last {
            Some(last) => after = last,
            None => return Ok(pruned),
        }
        if wanted == Prune::Delete {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

struct Step {
    goes: Vec<OldClickId>,
    /// Where the next one goes on.
    last: Option<String>,
}

async fn step(
    tx: &mut AnyConnection,
    after: &str,
    until: Timestamp,
    wanted: Prune,
) -> Result<Step> {
    let old = visit::last_seen_before(tx, until, after, CLICK_IDS_AT_A_TIME).await?;
    let (Some(first), Some(last)) = (old.first(), old.last().map(|last| last.click_id.clone()))
    else {
        return Ok(Step { goes: Vec::new(), last: None });
    };
    let needed = table::needed_click_ids(tx, &first.click_id, &last).await?;
    let (mut goes, mut runs) = (Vec::new(), Vec::<(String, String)>::new());
    let mut is_broken = true;
    for old in old {
        if needed.contains(&old.click_id) {
            is_broken = true;
            continue;
        }
        match runs.last_mut().filter(|_| !is_broken) {
            Some((_, to)) => to.clone_from(&old.click_id),
            None => runs.push((old.click_id.clone(), old.click_id.clone())),
        }
        is_broken = false;
        goes.push(old);
    }
    if wanted == Prune::Delete {
        for (from, to) in &runs {
            visit::delete_old(tx, until, from, to).await?;
            registration::forget(tx, from, to).await?;
        }
    }
    Ok(Step { goes, last: Some(last) })
}

fn add(pruned: &mut BTreeMap<String, Pruned>, old: OldClickId) {
    let new = Pruned { visits: 0, oldest: old.first_at, newest: old.last_at };
    let sum = pruned.entry(old.site_id).or_insert(new);
    sum.visits += old.visits;
    sum.oldest = sum.oldest.min(old.first_at);
    sum.newest = sum.newest.max(old.last_at);
}
