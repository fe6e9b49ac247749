//! Matches that a user makes by hand.
//! Takes a conversion, a click ID and the user; writes the match and everything that follows.
//! Guarantees that such a match wins over every rule, survives later matching and replays, and can
//! be undone.

use anyhow::Result;

use super::{Ledger, settle_again, table, turn};
use crate::ids::ClickId;
use crate::store::Store;
use crate::visit;

/// The result of a match by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MatchedByHand {
    /// It is matched, now or since before.
    Done,
    /// There is no such conversion.
    NoConversion,
    /// The text is not one of our click IDs.
    NoClickId,
    /// No visit with this click ID is stored.
    NoVisit,
}

/// Matches a conversion to a visit at a user's request. The match wins over every rule, survives
/// later matching, and can be undone.
pub(crate) async fn match_by_hand(
    store: &Store,
    ledger: Ledger<'_>,
    id: &str,
    click_id: &str,
    made_by: &str,
) -> Result<MatchedByHand> {
    let Some(click_id) = ClickId::parse(click_id.trim()) else {
        return Ok(MatchedByHand::NoClickId);
    };
    let (mut tx, settings) = ledger.begin(store).await?;
    let ledger = ledger.with(&settings);
    let Some(record) = table::find(&mut tx, id).await?.filter(|record| record.line.is_some())
    else {
        return Ok(MatchedByHand::NoConversion);
    };
    turn::take_around(&mut tx, &record.payment.account, id).await?;
    let Some(visit) = visit::find(&mut tx, &click_id).await? else {
        return Ok(MatchedByHand::NoVisit);
    };
    let is_known = table::manual_click_id(&mut tx, id).await?.as_ref() == Some(&visit.click_id);
    if !is_known {
        table::forget_manual_match(&mut tx, id).await?;
        table::save_manual_match(&mut tx, ledger.now, &record, &visit.click_id, made_by).await?;
        settle_again(&mut tx, ledger, id).await?;
        tx.commit().await?;
    }
    Ok(MatchedByHand::Done)
}

/// Undoes a match by hand; the rules decide again. Returns false if there was none.
pub(crate) async fn take_back_match(store: &Store, ledger: Ledger<'_>, id: &str) -> Result<bool> {
    let (mut tx, settings) = ledger.begin(store).await?;
    let ledger = ledger.with(&settings);
    let Some(record) = table::find(&mut tx, id).await? else { return Ok(false) };
    turn::take_around(&mut tx, &record.payment.account, id).await?;
    let found = table::forget_manual_match(&mut tx, id).await?;
    if found {
        settle_again(&mut tx, ledger, id).await?;
        tx.commit().await?;
    }
    Ok(found)
}
