//! Reads older visits again after an update changed how sources and channels are named.
//! Takes the stored visits in the order of their key, a few per transaction; writes their new names,
//! the counters, and the copies in customer journeys and abandoned checkouts.
//! Guarantees that reports name a source in one way once it is done, that an interrupted run
//! continues where it stopped, and that copies of the program do each step once.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::{table, turn};
use crate::failpoint;
use crate::settings;
use crate::store::{AnyConnection, Store};
use crate::visit::{self, Part};

/// The name under which progress is stored.
const PROGRESS: &str = "visits_read_again";
/// Visits per transaction; limits how long the writer of visits and the ledger wait.
const VISITS_AT_A_TIME: usize = 200;
/// Pause between two steps, so that other writers get their turn.
const PAUSE: Duration = Duration::from_millis(20);
/// Steps after which the log says how far it is.
const LOGGED_EVERY: i64 = 500;

/// How far the stored visits were read again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Progress {
    /// The version of the rules that they are read by.
    rules: i64,
    /// The last visit that was read.
    click_id: String,
    sent_at_ms: i64,
    visits: i64,
    renamed: i64,
    is_done: bool,
}

impl Progress {
    /// The stored text, and what it says if it is about the current rules.
    async fn read(store: &Store) -> Result<(Option<String>, Option<Self>)> {
        let stored = settings::progress(store, PROGRESS).await?;
        let known = stored.as_deref().and_then(|text| serde_json::from_str::<Self>(text).ok());
        let known = known.filter(|progress| progress.rules == visit::CHANNEL_RULES);
        Ok((stored, known))
    }

    fn after(&self, part: &Part) -> Self {
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let (click_id, sent_at_ms) =
            part.last.clone().unwrap_or_else(|| (self.click_id.clone(), self.sent_at_ms));
        Self {
            rules: visit::CHANNEL_RULES,
            click_id,
            sent_at_ms,
            visits: self.visits + count(part.read),
            renamed: self.renamed + count(part.renamed.len()),
            is_done: part.read < VISITS_AT_A_TIME,
        }
    }
}

/// How many visits were read again so far; `None` if that is done or has not begun.
pub(crate) async fn reading_again(store: &Store) -> Result<Option<i64>> {
    let (_, known) = Progress::read(store).await?;
    Ok(known.filter(|progress| !progress.is_done).map(|progress| progress.visits))
}

/// Reads the next visits again. Returns false if all are read by the current rules.
pub(crate) async fn step(store: &Store) -> Result<bool> {
    let (stored, known) = Progress::read(store).await?;
    if known.as_ref().is_some_and(|progress| progress.is_done) {
        return Ok(false);
    }
    let known = known.unwrap_or(Progress { sent_at_ms: i64::MIN, ..Progress::default() });
    let limit = i64::try_from(VISITS_AT_A_TIME).unwrap_or(i64::MAX);
    let after = (known.click_id.as_str(), known.sent_at_ms);
    let part = visit::read_again(store, after, limit).await?;
    let next = known.after(&part);
    let text = serde_json::to_string(&next).context("the progress of reading visits again")?;
    let mut tx = store.begin().await?;
    if !part.renamed.is_empty() {
        // A payment that is matched meanwhile would copy the old names.
        turn::take_all(&mut tx).await?;
    }
    if !settings::advance(&mut tx, PROGRESS, stored.as_deref(), &text).await? {
        return Ok(true); // Another copy of the program did this step.
    }
    if !visit::rename(&mut tx, &part).await? {
        return Ok(true); // A visit was changed meanwhile: the next step reads it as it is now.
    }
    copy_names(&mut tx, &part).await?;
    failpoint::pass("reading_again").await;
    visit::recount(&mut tx, &part).await?;
    tx.commit().await?;
    log(&next);
    tokio::time::sleep(PAUSE).await;
    Ok(!next.is_done)
}

/// Copies the new names to the journeys and abandoned checkouts of these visits, and removes their
/// days from the rolled-up days.
async fn copy_names(tx: &mut AnyConnection, part: &Part) -> Result<()> {
    let named = table::named_click_ids(tx, &part.click_ids()).await?;
    let mut days = Vec::new();
    for click_id in named {
        // A click ID may have several visits; journeys have the first one.
        let Some(visit) = visit::find(tx, &click_id).await? else { continue };
        table::rename_copies(tx, &visit).await?;
        days.extend(table::paid_after(tx, &visit.click_id).await?);
    }
    if days.is_empty() {
        return Ok(());
    }
    // Sorted, so that two transactions that share the lock never wait for each other.
    days.sort_unstable();
    days.dedup();
    table::share_sums_turn(tx).await?;
    for (site_id, livemode, at_ms) in days {
        table::unsum(tx, &site_id, livemode, at_ms).await?;
    }
    Ok(())
}

fn log(progress: &Progress) {
    let Progress { visits, renamed, is_done, .. } = *progress;
    let step = i64::try_from(VISITS_AT_A_TIME).unwrap_or(i64::MAX);
    if is_done && renamed > 0 {
        tracing::info!(
            visits,
            renamed,
            "older visits have the current names of sources and channels"
        );
    } else if !is_done && (visits <= step || visits % (step * LOGGED_EVERY) < step) {
        tracing::info!(
            visits,
            renamed,
            "reading older visits again, to name sources and channels as now"
        );
    }
}
