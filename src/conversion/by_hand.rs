//! Matches that somebody makes by hand.
//! In: a conversion, a click ID, who says so. Out: the conversion matched, and everything that follows.
//! Promise: it beats every rule, survives joining again and a ledger written anew, and can be taken back.

use anyhow::Result;

use super::{Ledger, settle_again, table};
use crate::ids::ClickId;
use crate::store::Store;
use crate::visit;

/// How a match by hand ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MatchedByHand {
    /// It is matched, now or already.
    Done,
    /// There is no such conversion.
    NoConversion,
    /// The text is no click ID of ours.
    NoClickId,
    /// No visit with this click ID is recorded.
    NoVisit,
}

/// Matches a conversion to a visit because somebody says so. It beats every rule, survives joining again, and can be taken back.
///
/// # Errors
/// When the database cannot be written.
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
    table::take_turn(&mut tx, &record.payment.account).await?;
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

/// Takes a match by hand back; the rules decide again. False when nobody had matched it.
///
/// # Errors
/// When the database cannot be written.
pub(crate) async fn take_back_match(store: &Store, ledger: Ledger<'_>, id: &str) -> Result<bool> {
    let (mut tx, settings) = ledger.begin(store).await?;
    let ledger = ledger.with(&settings);
    let Some(record) = table::find(&mut tx, id).await? else { return Ok(false) };
    table::take_turn(&mut tx, &record.payment.account).await?;
    let found = table::forget_manual_match(&mut tx, id).await?;
    if found {
        settle_again(&mut tx, ledger, id).await?;
        tx.commit().await?;
    }
    Ok(found)
}
