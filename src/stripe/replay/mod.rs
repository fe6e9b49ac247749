//! Rebuilds the ledger from the raw events and the visits.
//! Takes a store; returns every difference, and corrects them if asked to, in one transaction.
//! Guarantees that it runs the same functions that process webhooks, in scratch tables that shield
//! the real ones. Delivered messages are not sent again; matches by hand stay.

mod table;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use serde::Serialize;

use super::worker;
use crate::clock::Timestamp;
use crate::conversion::{self, Ledger};
use crate::store::{Shadow, Store};

/// Re-match batches after the last event, a hundred payments each; each batch may lead to the next.
const REJOINS: usize = 20;
/// The same while many payments depend on one, which is done step by step.
const MAX_REJOINS: usize = 5_000;

/// Conversions compared per page.
const LINES_AT_A_TIME: i64 = 200;

/// Which conversions are compared, and whether they are corrected.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// Only conversions that occurred at this time or later.
    pub from: Option<Timestamp>,
    /// Only conversions that occurred before this time.
    pub until: Option<Timestamp>,
    /// Correct the differences.
    pub apply: bool,
}

/// The result of a replay.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Replayed {
    /// Events and requests of postbacks that were read.
    pub events: usize,
    /// Conversions that they create.
    pub conversions: usize,
    /// Conversions that differ from the ledger.
    pub differences: Vec<Difference>,
    /// Events with another final state than before: their number by type, state before and state
    /// now.
    pub events_changed: BTreeMap<String, usize>,
    /// Conversions that were left out, because the server changed them during the replay or is
    /// about to re-match them.
    pub moved: usize,
    /// True when the differences were corrected.
    pub applied: bool,
}

/// A conversion that differs.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    /// `cnv_…`; `None` if it is missing here.
    pub conversion_id: Option<String>,
    /// Its transaction ID, from Stripe or from the postback.
    pub transaction_id: String,
    /// The kind of difference.
    pub what: What,
    /// Field, value here, rebuilt value; empty text for no value.
    pub fields: Vec<(String, String, String)>,
    #[serde(skip)]
    account: String,
    /// Its ID in the scratch tables.
    #[serde(skip)]
    rebuilt: Option<String>,
    /// The ID of the payment here, even if it has no conversion yet.
    #[serde(skip)]
    ours: Option<String>,
}

/// The kind of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The rebuilt conversion has other values.
    Changed,
    /// The events create a conversion that is missing here.
    Missing,
    /// There is a conversion here that no event creates.
    Unfounded,
}

/// The compared fields of a conversion.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    account: String,
    fields: BTreeMap<String, String>,
}

/// A rebuilt conversion and the one here.
struct Pair {
    /// Its ID in the scratch tables.
    rebuilt_id: String,
    rebuilt: Line,
    /// The ID of the payment here, even if it has no conversion yet.
    ours: Option<String>,
    here: Option<Line>,
}

/// An event with another final state than before.
struct Reread {
    /// `sev_…`.
    id: String,
    kind: String,
    /// State and reason.
    before: (String, Option<String>),
    now: (String, Option<String>),
    /// The conversion that it belongs to now.
    conversion_id: Option<String>,
}

/// The result of a comparison.
#[derive(Default)]
struct Compared {
    conversions: usize,
    differences: Vec<Difference>,
    reread: Vec<Reread>,
    moved: usize,
}

/// Rebuilds, compares, and corrects if asked to. `others` records the conversions that did not come
/// from Stripe, and returns the number of requests. The server may keep running: what it changes
/// meanwhile is left out.
///
/// # Errors
/// Fails if the database does not answer. Then nothing was changed, and it may run again.
pub(crate) async fn run(
    store: &Store,
    ledger: Ledger<'_>,
    wanted: &Wanted,
    others: impl AsyncFn(&Store, Ledger<'_>) -> Result<usize>,
) -> Result<Replayed> {
    let tables = conversion::LEDGER.iter().map(|(table, _)| *table);
    let tables = tables.chain(conversion::BESIDE_THE_LEDGER.iter().copied());
    let tables: Vec<&str> = tables.chain(["stripe_events", "stripe_lookups"]).collect();
    let shadow = store.shadow(&tables, &table::OWN_TABLES).await?;
    shadow.take_picture(&table::PICTURE).await?;
    table::forget_outcomes(&shadow, ledger.now).await?;
    let rebuilding = Ledger { later: None, ..ledger };
    let mut events = others(&shadow, rebuilding).await?;
    loop {
        match worker::round(&shadow, rebuilding).await? {
            0 => break,
            ended => events += ended,
        }
    }
    rejoin(&shadow, rebuilding).await?;
    let compared = compare(&shadow, wanted).await?;
    let mut changed = BTreeMap::new();
    for Reread { kind, before, now, .. } in &compared.reread {
        *changed.entry(format!("{kind}: {} → {}", ended(before), ended(now))).or_default() += 1;
    }
    let mut replayed = Replayed {
        events,
        conversions: compared.conversions,
        differences: compared.differences,
        events_changed: changed,
        moved: compared.moved,
        applied: false,
    };
    let is_clean = replayed.differences.is_empty() && replayed.events_changed.is_empty();
    if wanted.apply && !is_clean {
        let (found, reread) = (&replayed.differences, &compared.reread);
        replayed.moved += apply(store, &shadow, ledger, found, reread, wanted).await?;
        replayed.applied = true;
    }
    shadow.end().await;
    Ok(replayed)
}

/// Re-matches until nothing is left to re-match.
async fn rejoin(shadow: &Shadow, ledger: Ledger<'_>) -> Result<()> {
    for round in 1..=MAX_REJOINS {
        let is_over = conversion::rejoin(shadow, ledger).await? == 0
            || (round >= REJOINS && !conversion::has_unsettled(shadow).await?);
        if is_over {
            return Ok(());
        }
    }
    bail!("re-matching the rebuilt ledger does not end; nothing was changed")
}

fn ended((state, reason): &(String, Option<String>)) -> String {
    match reason {
        Some(reason) => format!("{state} ({reason})"),
        None => state.clone(),
    }
}

/// Compares page by page, so that memory does not depend on the size of the ledger: only
/// differences are kept.
async fn compare(shadow: &Shadow, wanted: &Wanted) -> Result<Compared> {
    table::pair(shadow).await?;
    let mut compared = Compared::default();
    let mut after = String::new();
    loop {
        let page = table::pairs(shadow, &after, LINES_AT_A_TIME).await?;
        let Some(last) = page.last() else { break };
        after.clone_from(&last.rebuilt_id);
        compared.conversions += page.len();
        compared.differences.extend(page.into_iter().filter_map(|pair| difference(pair, wanted)));
    }
    for (id, here) in table::unfounded(shadow).await? {
        if wanted.covers(&here) {
            compared.differences.push(Difference {
                conversion_id: Some(id.clone()),
                transaction_id: here.field("transaction_id"),
                what: What::Unfounded,
                fields: differing(Some(&here), None),
                account: here.account,
                rebuilt: None,
                ours: Some(id),
            });
        }
    }
    let (moved, all) = (table::moved(shadow).await?, compared.differences.len());
    compared.differences.retain(|found| !found.has_moved(&moved));
    compared.moved = all - compared.differences.len();
    compared.differences.sort_by(|a, b| a.transaction_id.cmp(&b.transaction_id));
    compared.reread = table::reread(shadow).await?;
    Ok(compared)
}

fn difference(pair: Pair, wanted: &Wanted) -> Option<Difference> {
    let fields = differing(pair.here.as_ref(), Some(&pair.rebuilt));
    if fields.is_empty() || !wanted.covers(&pair.rebuilt) {
        return None;
    }
    Some(Difference {
        conversion_id: pair.ours.clone().filter(|_| pair.here.is_some()),
        transaction_id: pair.rebuilt.field("transaction_id"),
        what: if pair.here.is_some() { What::Changed } else { What::Missing },
        fields,
        account: pair.rebuilt.account,
        rebuilt: Some(pair.rebuilt_id),
        ours: pair.ours,
    })
}

/// The fields that differ, with both values.
fn differing(here: Option<&Line>, rebuilt: Option<&Line>) -> Vec<(String, String, String)> {
    let names: BTreeSet<&String> =
        [here, rebuilt].into_iter().flatten().flat_map(|line| line.fields.keys()).collect();
    let text =
        |line: Option<&Line>, name: &str| line.map(|line| line.field(name)).unwrap_or_default();
    names
        .into_iter()
        .map(|name| (name.clone(), text(here, name), text(rebuilt, name)))
        .filter(|(_, here, rebuilt)| here != rebuilt)
        .collect()
}

impl Difference {
    /// True if its conversion was changed meanwhile, or is about to be.
    fn has_moved(&self, moved: &BTreeSet<String>) -> bool {
        [&self.ours, &self.rebuilt].into_iter().flatten().any(|id| moved.contains(id))
    }
}

impl Line {
    fn field(&self, name: &str) -> String {
        self.fields.get(name).cloned().unwrap_or_default()
    }
}

impl Wanted {
    fn covers(&self, line: &Line) -> bool {
        let at = line.field("occurred_at_ms").parse().map(Timestamp::from_ms).unwrap_or_default();
        self.from.is_none_or(|from| at >= from) && self.until.is_none_or(|until| at < until)
    }
}

/// Overwrites the conversions that differ in one transaction, then re-matches each of them, which
/// queues its messages. Returns how many were changed meanwhile and left out: the rebuilt ones lack
/// the events that changed them.
async fn apply(
    store: &Store,
    shadow: &Shadow,
    ledger: Ledger<'_>,
    differences: &[Difference],
    reread: &[Reread],
    wanted: &Wanted,
) -> Result<usize> {
    // Everything that depends on the settings is decided below, with the settings of that moment.
    let (mut tx, _) = ledger.begin(store).await?;
    let accounts: BTreeSet<&String> = differences.iter().map(|found| &found.account).collect();
    for account in accounts {
        conversion::take_turn(&mut tx, account).await?;
    }
    // From here on no other transaction writes these ledgers, so what has not changed by now stays
    // unchanged.
    let moved = table::moved(shadow).await?;
    let (moved, differences): (Vec<&Difference>, Vec<_>) =
        differences.iter().partition(|found| found.has_moved(&moved));
    conversion::unsum_all(&mut tx).await?;
    for id in differences.iter().filter_map(|found| found.ours.as_deref()) {
        conversion::forget(&mut tx, id).await?;
    }
    let mut written = Vec::new();
    for found in &differences {
        let Some(rebuilt) = &found.rebuilt else {
            if let Some(id) = &found.conversion_id {
                conversion::remove_unless_sent(&mut tx, id).await?;
            }
            continue;
        };
        let ours = found.ours.as_ref().unwrap_or(rebuilt);
        for (table, key) in conversion::LEDGER {
            shadow.copy_out(&mut tx, table, key, rebuilt, ours).await?;
        }
        written.push((found.account.clone(), ours.clone()));
    }
    let is_whole = wanted.from.is_none() && wanted.until.is_none();
    for event in reread {
        let is_written = written.iter().any(|(_, ours)| event.conversion_id.as_ref() == Some(ours));
        if !is_whole && !is_written {
            continue; // Its conversion is not among the corrected ones.
        }
        // Facts of the event beside its conversion were not copied, so process it again.
        table::put_back(&mut tx, ledger.now, &event.id).await?;
    }
    tx.commit().await?;
    for (account, id) in &written {
        conversion::join_again(store, ledger, account, id).await?;
    }
    Ok(moved.len())
}
