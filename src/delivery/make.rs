//! Makes the messages of destinations that have a mapping.
//! Takes deliveries that were queued with facts only; writes their bytes, which no retry changes, or gives up those whose mapping fails.
//! Expressions are computed outside of any transaction, on threads of their own, so that no webhook, visit or other delivery waits for them. A crash
//! leaves the facts where they are, and the next round makes the message.

use anyhow::Result;
use futures_util::stream::{self, StreamExt as _};

use super::table;
use crate::clock::Clock;
use crate::destination::{self, Made};
use crate::failpoint;
use crate::settings::Settings;
use crate::store::Store;

/// Messages made in one transaction.
const MESSAGES_AT_A_TIME: i64 = 100;
/// Mappings computed at a time.
const MAPPINGS_AT_A_TIME: usize = 4;

/// A message that is still to be made.
pub(super) struct Unmade {
    pub(super) id: String,
    pub(super) destination_id: String,
    /// What its mapping may use, as JSON.
    pub(super) facts: String,
}

/// How one ended: the destination's revision, with the bytes or why there are none.
type Ended = (Unmade, i64, Result<Made, String>);

/// Makes the messages that wait. Returns how many; 0 when none does.
///
/// # Errors
/// When the database does not answer; the next round makes them.
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
    // Another copy of the program may have queued them for a destination that is new.
    settings.refresh(store).await?;
    let snapshot = settings.current();
    let known = unmade.into_iter().filter_map(|unmade| {
        // One that was deleted meanwhile has given this up.
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
                tracing::warn!(delivery = unmade.id, "could not make a message: {error}");
                table::give_up_unmade(&mut tx, clock.now(), unmade, error).await?;
            }
        }
    }
    tx.commit().await?;
    failpoint::pass("made").await;
    Ok(ended.len())
}
