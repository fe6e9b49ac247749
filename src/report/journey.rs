//! One conversion with its customer journey and deliveries. Takes a conversion's ID; returns its
//! columns, its touchpoints with their visits, its deliveries with every attempt, and its Stripe
//! events. Guarantees that everything stored about a payment is included.

use anyhow::{Context as _, Result};

use super::conversions::{ConversionRow, Touch, conversion_row};
use super::custom_requests::{self, CustomRequest};
use super::deliveries::{self, Delivery};
use super::stripe_events::{self, StripeEventRow};
use super::visits::{self, VisitRow};
use crate::domain::ConversionStatus;
use crate::store::{Store, from_row, sql};

/// One conversion with everything stored about it.
#[derive(Clone, Debug)]
pub(crate) struct Conversion {
    /// The row of lists: its columns, its touchpoints, a summary of its deliveries.
    pub(crate) row: ConversionRow,
    /// JSON: the merged data of its events.
    pub(crate) payment: String,
    /// The customer journey, first touch first, with the visit of each touchpoint.
    pub(crate) way: Vec<TouchVisit>,
    /// Every message with every attempt, oldest first.
    pub(crate) deliveries: Vec<Delivery>,
    /// Its Stripe events, in the order of arrival; [`super::stripe_event`] returns their bodies.
    pub(crate) events: Vec<StripeEventRow>,
    /// The postbacks that created or repeated it, in the order of arrival.
    pub(crate) requests: Vec<CustomRequest>,
    /// The Stripe objects that belong to it.
    pub(crate) objects: Vec<LearnedObject>,
    /// Who matched it manually, if a user did.
    pub(crate) by_hand: Option<ByHand>,
    /// Who marked it as a duplicate of another payment, if a user did.
    pub(crate) duplicate: Option<ByHand>,
}

/// A touchpoint and its visit.
#[derive(Clone, Debug)]
pub(crate) struct TouchVisit {
    pub(crate) touch: Touch,
    /// `None` if the visit was deleted after the retention period.
    pub(crate) visit: Option<VisitRow>,
}

/// A manual decision of a user: a match, or a payment marked as a duplicate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ByHand {
    pub(crate) made_by: String,
    /// When, ms since 1970, UTC.
    pub(crate) made_at_ms: i64,
}

from_row!(ByHand { made_by, made_at_ms });

/// A Stripe object that belongs to a conversion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LearnedObject {
    /// `cs_…`, `pi_…`, `in_…`, …
    pub(crate) object_id: String,
    /// `identity`: it identifies the payment. `lineage`: the payment may be matched through it.
    pub(crate) role: String,
}

from_row!(LearnedObject { object_id, role });

/// The ID of the conversion into which this one was merged; `None` if it was not merged.
pub(crate) async fn merged_into(store: &Store, id: &str) -> Result<Option<String>> {
    let row: Option<(String,)> =
        sql("select merged_into from payments where id = :id and merged_into is not null")
            .set("id", id)
            .optional(store.pool())
            .await
            .context("could not read a merged conversion")?;
    Ok(row.map(|(into,)| into))
}

/// Maximum number of touchpoints whose visits are read. A journey rarely has more than ten.
const MAX_TOUCHES: usize = 50;

/// Reads one conversion with everything stored about it.
pub(crate) async fn conversion(store: &Store, id: &str) -> Result<Option<Conversion>> {
    let Some(row) = conversion_row(store, id).await? else { return Ok(None) };
    let payment: String = sql("select facts from payments where id = :id")
        .set("id", id)
        .value(store.pool())
        .await
        .context("could not read a conversion's payment")?;
    let objects: Vec<LearnedObject> = sql("select object_id, role
           from stripe_objects
          where conversion_id = :conversion_id
          order by role, object_id")
    .set("conversion_id", id)
    .all(store.pool())
    .await
    .context("could not list a conversion's objects")?;
    let by_hand: Option<ByHand> = sql("select m.made_by, m.made_at_ms
           from stripe_objects o
           join manual_matches m on m.account = o.account and m.object_id = o.object_id
          where o.conversion_id = :conversion_id and o.role = 'identity'
          order by m.made_at_ms desc
          limit 1")
    .set("conversion_id", id)
    .optional(store.pool())
    .await
    .context("could not read who matched a conversion")?;
    let duplicate: Option<ByHand> = sql("select m.made_by, m.made_at_ms
           from stripe_objects o
           join duplicates m on m.account = o.account and m.object_id = o.object_id
          where o.conversion_id = :conversion_id and o.role = 'identity'
          limit 1")
    .set("conversion_id", id)
    .optional(store.pool())
    .await
    .context("could not read who marked a conversion as a duplicate")?;
    let mut way = Vec::with_capacity(row.touches.len());
    for touch in &row.touches {
        let visits = if way.len() < MAX_TOUCHES {
            visits::of_click_id(store, &touch.click_id).await?
        } else {
            Vec::new()
        };
        // A click ID may have many visits; the touchpoint is the one at its time.
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
        duplicate: duplicate.filter(|_| row.status == ConversionStatus::Duplicate),
        row,
    }))
}
