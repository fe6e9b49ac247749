//! One conversion with all that led to it and all that came of it.
//! In: a conversion's ID. Out: its columns, its touches with their visits, its deliveries with every attempt, its Stripe events.
//! Promise: whatever we know about a payment can be seen from here.

use anyhow::{Context as _, Result};

use super::conversions::{ConversionRow, Touch, conversion_row};
use super::custom_requests::{self, CustomRequest};
use super::deliveries::{self, Delivery};
use super::stripe_events::{self, StripeEventRow};
use super::visits::{self, VisitRow};
use crate::store::Store;

/// One conversion with its whole story.
#[derive(Clone, Debug)]
pub(crate) struct Conversion {
    /// Its columns, its touches, its deliveries in short.
    pub(crate) row: ConversionRow,
    /// JSON: everything its events said, merged.
    pub(crate) payment: String,
    /// The visitor's way, first touch first, with what each visit recorded.
    pub(crate) way: Vec<TouchVisit>,
    /// Every message with every attempt, oldest first.
    pub(crate) deliveries: Vec<Delivery>,
    /// The Stripe events that told it, in the order of arrival; bodies by [`super::stripe_event`].
    pub(crate) events: Vec<StripeEventRow>,
    /// The requests of a custom source that told it, in the order of arrival.
    pub(crate) requests: Vec<CustomRequest>,
    /// The objects of Stripe's that belong to it.
    pub(crate) objects: Vec<LearnedObject>,
    /// Who matched it by hand, if somebody did.
    pub(crate) by_hand: Option<ByHand>,
    /// Who marked it as the receipt of another payment, if somebody did.
    pub(crate) duplicate: Option<ByHand>,
}

/// A touch and the visit it comes from.
#[derive(Clone, Debug)]
pub(crate) struct TouchVisit {
    /// The step.
    pub(crate) touch: Touch,
    /// `None` when its visit was purged.
    pub(crate) visit: Option<VisitRow>,
}

/// A decision of a user: a match made by hand, a receipt.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct ByHand {
    /// The user's e-mail address.
    pub(crate) made_by: String,
    /// When, ms since 1970, UTC.
    pub(crate) made_at_ms: i64,
}

/// An object of Stripe's that we learned.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct LearnedObject {
    /// `cs_…`, `pi_…`, `in_…`, …
    pub(crate) object_id: String,
    /// identity: names the payment; lineage: only lends a click ID.
    pub(crate) role: String,
}

/// Where the story of a conversion goes on that turned out to be part of another one.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn merged_into(store: &Store, id: &str) -> Result<Option<String>> {
    let row: Option<(String,)> = sqlx::query_as(
        "select merged_into from payments where id = $1 and merged_into is not null",
    )
    .bind(id)
    .fetch_optional(store.pool())
    .await
    .context("could not look for a merged conversion")?;
    Ok(row.map(|(into,)| into))
}

/// Most touches whose visits are read; a way is rarely longer than ten.
const MAX_TOUCHES: usize = 50;

/// One conversion with its whole story.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn conversion(store: &Store, id: &str) -> Result<Option<Conversion>> {
    let Some(row) = conversion_row(store, id).await? else { return Ok(None) };
    let (payment,): (String,) = sqlx::query_as("select facts from payments where id = $1")
        .bind(id)
        .fetch_one(store.pool())
        .await
        .context("could not read a conversion's payment")?;
    let objects: Vec<LearnedObject> = sqlx::query_as(
        "select object_id, role
           from stripe_objects
          where conversion_id = $1
          order by role, object_id",
    )
    .bind(id)
    .fetch_all(store.pool())
    .await
    .context("could not list a conversion's objects")?;
    let by_hand: Option<ByHand> = sqlx::query_as(
        "select m.made_by, m.made_at_ms
           from stripe_objects o
           join manual_matches m on m.account = o.account and m.object_id = o.object_id
          where o.conversion_id = $1 and o.role = 'identity'
          order by m.made_at_ms desc
          limit 1",
    )
    .bind(id)
    .fetch_optional(store.pool())
    .await
    .context("could not read who matched a conversion")?;
    let duplicate: Option<ByHand> = sqlx::query_as(
        "select m.made_by, m.made_at_ms
           from stripe_objects o
           join duplicates m on m.account = o.account and m.object_id = o.object_id
          where o.conversion_id = $1 and o.role = 'identity'
          limit 1",
    )
    .bind(id)
    .fetch_optional(store.pool())
    .await
    .context("could not read who marked a conversion as a duplicate")?;
    let mut way = Vec::with_capacity(row.touches.len());
    for touch in &row.touches {
        let visits = if way.len() < MAX_TOUCHES {
            visits::of_click_id(store, &touch.click_id).await?
        } else {
            Vec::new()
        };
        // A click ID may have many visits; the touch is the one at its time.
        let distance = |visit: &VisitRow| visit.at.as_ms().abs_diff(touch.at.as_ms());
        let visit = visits.into_iter().min_by_key(distance);
        way.push(TouchVisit { touch: touch.clone(), visit });
    }
    Ok(Some(Conversion {
        payment,
        way,
        deliveries: deliveries::of_conversion(store, id).await?,
        events: stripe_events::of_conversion(store, id).await?,
        requests: custom_requests::of_conversion(store, id).await?,
        objects,
        by_hand,
        duplicate: duplicate.filter(|_| row.status == "duplicate"),
        row,
    }))
}
