//! Builds the messages of destinations that have a mapping.
//! Takes deliveries that were queued with facts only; writes their bytes, which no retry changes,
//! or marks deliveries as failed whose mapping fails.
//! Guarantees that no webhook, visit or other delivery waits: expressions are evaluated outside of
//! any transaction, on their own threads. After a crash the facts are still stored, and the next
//! run builds the message.

use anyhow::Result;
use futures_util::stream::{self, StreamExt as _};

use super::message::Unmade;
use super::table;
use crate::clock::Clock;
use crate::destination::{self, Made};
use crate::failpoint;
use crate::settings::Settings;
use crate::store::Store;

/// Messages built in one transaction.
const MESSAGES_AT_A_TIME: i64 = 100;
/// Mappings evaluated at the same time.
const MAPPINGS_AT_A_TIME: usize = 4;

/// A message with the revision of its destination, and its bytes or the error.
type Ended = (Unmade, i64, Result<Made, String>);

/// Builds messages that have no bytes yet. Returns their number.
pub(crate) async fn make_messages(
    store: &Store,
    settings: &Settings,
    clock: &Clock,
) -> Result<usize> {
    let unmade = table::unmade(store, MESSAGES_AT_A_TIME).await?;
    if unmade.is_empty() {
        return Ok(0);
    }
    failpoint::pass("making").await;
    // Another copy of the program may have queued them for a new destination.
    settings.refresh(store).await?;
    let snapshot = settings.current();
    let known = unmade.into_iter().filter_map(|unmade| {
        // If the destination was deleted meanwhile, the delivery is marked as failed already.
        let destination = snapshot.destination(&unmade.destination_id)?.clone();
        Some((unmade, destination))
    });
    let making = known.map(|(unmade, destination)| async move {
        let made = destination::make(&destination, unmade.facts.clone()).await;
        (unmade, destination.revision, made)
    });
    let ended: Vec<Ended> =
        stream::iter(making).buffer_unordered(MAPPINGS_AT_A_TIME).collect().await;
    let mut tx = store.begin().await?;
    for (unmade, revision, made) in &ended {
        match made {
            Ok(made) => table::freeze(&mut tx, unmade, *revision, made).await?,
            Err(error) => {
                tracing::warn!(delivery = unmade.id, "could not build a message: {error}");
                table::give_up_unmade(&mut tx, clock.now(), unmade, error).await?;
            }
        }
    }
    tx.commit().await?;
    failpoint::pass("made").await;
    Ok(ended.len())
}
