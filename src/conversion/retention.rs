//! Deletes old visits that led to nothing.
//! Takes a time; returns how many visits of each site were deleted or would be, and their dates.
//! Guarantees that no visit is deleted that a conversion, its customer journey, an abandoned
//! checkout, a match by hand or a waiting payment needs. Deletes in small steps, so that no other
//! writer waits long.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;

use super::{table, turn};
use crate::clock::Timestamp;
use crate::registration;
use crate::store::{AnyConnection, Store};
use crate::visit::{self, OldClickId};

/// Click IDs per transaction; limits how long the visit writer and the ledger wait.
const CLICK_IDS_AT_A_TIME: i64 = 500;
/// Pause between two transactions, so that writers in other processes get their turn.
const PAUSE: Duration = Duration::from_millis(20);

/// Whether to delete or only to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prune {
    /// Only count what would be deleted.
    Count,
    /// Delete.
    Delete,
}

/// The visits of a site that were, or would be, deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// Their number.
    pub visits: i64,
    /// The earliest.
    pub oldest: Timestamp,
    /// The latest.
    pub newest: Timestamp,
}

/// Deletes the visits of click IDs that were last seen before `until` and that the ledger does not
/// need. Returns them by site ID, `site_…`.
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
                // No payment may be matched between the check and the deletion.
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
    /// The last click ID of this step; the next one continues after it.
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
