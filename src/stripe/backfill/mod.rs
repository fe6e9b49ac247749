//! Fetches missed events from Stripe.
//! Takes the number of days to go back; stores events of origin `backfill`, which wait to be
//! processed like any webhook.
//! Guarantees that each event is stored once, and that a run that was interrupted continues where
//! it stopped.
//! Source: docs.stripe.com/api/events/list (30 days), docs.stripe.com/api/checkout/sessions/list.

mod place;
mod table;

use std::time::Duration;

use anyhow::Result;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use self::place::{List, Place, Stretch};
use super::api::{self, Api, ApiError, Cursors, Page};
use super::table::{self as events, NewEvent};
use super::{event, listed_types};
use crate::clock::{Clock, Timestamp};
use crate::domain::EventOrigin;
use crate::ids;
use crate::json;
use crate::settings::Source;
use crate::store::{Store, Tx};

/// How long Stripe keeps events.
pub const EVENT_DAYS: u32 = 30;
const DAY: Duration = Duration::from_secs(86_400);

/// What to fetch.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// How many days back.
    pub days: u32,
    /// Key of the source the events are recorded under.
    pub source: String,
    /// A connected account (`acct_…`); empty for the key's own.
    pub account: String,
    /// Only events that Stripe could not deliver to at least one endpoint.
    pub undelivered: bool,
}

/// The result of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Backfilled {
    /// True if it continued an earlier run.
    pub resumed: bool,
    /// Events that Stripe listed.
    pub events: u64,
    /// Checkout sessions that Stripe listed, from before the time for which it keeps events.
    pub sessions: u64,
    /// How many of both were new here.
    pub stored: u64,
    /// The new ones that can't be read at all: stored unchanged, and shown as failed.
    pub unreadable: Vec<String>,
}

/// Reads lists of Stripe's API under a source.
pub(crate) struct Reader<'a> {
    pub(crate) store: &'a Store,
    pub(crate) api: &'a Api,
    pub(crate) clock: &'a Clock,
    pub(crate) source: &'a Source,
}

impl Reader<'_> {
    /// Lists events and stores them. The worker processes them.
    ///
    /// # Errors
    /// An [`ApiError`] if a request fails; what was stored until then stays, and the next run
    /// continues after it.
    pub(crate) async fn run(&self, wanted: &Wanted) -> Result<Backfilled> {
        let mut done = Backfilled::default();
        let (now, days) = (self.clock.now(), wanted.days.max(1));
        // Stripe's times are whole seconds. Events created during the run arrive by webhook or in
        // the next run.
        let until = now.plus(Duration::from_secs(1));
        let list = if wanted.undelivered { List::Undelivered } else { List::Events };
        let from = now.minus(DAY * days.min(EVENT_DAYS));
        let place = |list| Place { source: self.source, account: &wanted.account, list };
        let all = Stretch { from, until, cursor: None };
        self.read_list(&place(list), all, &mut done).await?;
        if days > EVENT_DAYS && !wanted.undelivered {
            let (from, until) = (now.minus(DAY * days), now.minus(DAY * EVENT_DAYS));
            let before = Stretch { from, until, cursor: None };
            self.read_list(&place(List::Sessions), before, &mut done).await?;
        }
        Ok(done)
    }

    /// Reads a list, starting with the rest of an earlier run that was interrupted.
    async fn read_list(
        &self,
        place: &Place<'_>,
        mut wanted: Stretch,
        done: &mut Backfilled,
    ) -> Result<()> {
        if let Some(rest) = table::unfinished(self.store, place).await? {
            done.resumed = true;
            let (covered, reached) = (rest.from <= wanted.from, rest.until);
            self.read_stretch(place, rest, done).await?;
            if covered {
                wanted.from = reached.minus(Duration::from_secs(2)).max(wanted.from);
            }
        }
        if wanted.from >= wanted.until {
            return Ok(());
        }
        self.read_stretch(place, wanted, done).await
    }

    async fn read_stretch(
        &self,
        place: &Place<'_>,
        mut stretch: Stretch,
        done: &mut Backfilled,
    ) -> Result<()> {
        let mut cursors = Cursors::from(stretch.cursor.clone());
        loop {
            let page = match page(self.api, place, &stretch).await {
                // The cursor's item is no longer listed: read the stretch from its start, because
                // repeats are ignored.
                Err(ApiError::Missing(_) | ApiError::Invalid(_)) if stretch.cursor.is_some() => {
                    stretch.cursor = None;
                    continue;
                }
                page => page?,
            };
            let moved = cursors.move_on(place.list.path(), page.next);
            stretch.cursor.clone_from(&cursors.last);
            if moved.is_err() {
                stretch.cursor = None; // The next run starts over, so it is not stuck at once.
            }
            self.store(place, &stretch, &page.data, done).await?;
            moved?;
            if stretch.cursor.is_none() {
                return Ok(());
            }
        }
    }

    /// Stores the items of a page, and how far the list was read.
    async fn store(
        &self,
        place: &Place<'_>,
        stretch: &Stretch,
        items: &[Box<RawValue>],
        done: &mut Backfilled,
    ) -> Result<()> {
        let mut tx = self.store.begin().await?;
        for item in items {
            let stored = store_item(&mut tx, self.clock.now(), place, item).await?;
            done.stored += u64::from(stored.is_new);
            done.unreadable.extend(stored.unreadable.filter(|_| stored.is_new));
        }
        table::note(&mut tx, place, stretch).await?;
        tx.commit().await?;
        let listed = u64::try_from(items.len()).unwrap_or(u64::MAX);
        match place.list {
            List::Events | List::Undelivered => done.events += listed,
            List::Sessions => done.sessions += listed,
        }
        Ok(())
    }
}

async fn page(api: &Api, place: &Place<'_>, stretch: &Stretch) -> Result<Page, ApiError> {
    let mut query = vec![
        ("created[gte]", stretch.from.as_seconds().to_string()),
        ("created[lt]", stretch.until.as_seconds().to_string()),
    ];
    match place.list {
        List::Events | List::Undelivered => {
            query.extend(listed_types().map(|kind| ("types[]", kind.to_owned())));
            if place.list == List::Undelivered {
                query.push(("delivery_success", "false".to_owned()));
            }
        }
        List::Sessions => query.push(("status", "complete".to_owned())),
    }
    api.page(place.account, place.list.path(), &query, stretch.cursor.as_deref()).await
}

async fn store_item(
    tx: &mut Tx,
    now: Timestamp,
    place: &Place<'_>,
    item: &RawValue,
) -> Result<Stored> {
    let body = match place.list {
        List::Events | List::Undelivered => item.get().to_owned(),
        List::Sessions => as_event("checkout.session.completed", place.account, item),
    };
    let body = body.as_bytes();
    let is_readable = json::lenient(body).is_ok_and(|read| read.value["type"].is_string());
    let unreadable = (!is_readable).then(|| envelope_of(body).event_id);
    let Place { source, account, .. } = *place;
    let fetched = Fetched { source, account, origin: EventOrigin::Backfill, body };
    let is_new = store_body(tx, now, &fetched).await?;
    Ok(Stored { is_new, unreadable })
}

/// The result of storing an item of a list.
struct Stored {
    is_new: bool,
    /// The event ID, if nothing else can be read.
    unreadable: Option<String>,
}

/// The envelope of a listed item, which is stored even if it is not an event at all.
fn envelope_of(body: &[u8]) -> event::Envelope {
    event::envelope(body).unwrap_or_else(|| event::broken_envelope(body))
}

/// An event from Stripe's API.
pub(super) struct Fetched<'a> {
    pub(super) source: &'a Source,
    /// The account that was asked, for events that do not name theirs.
    pub(super) account: &'a str,
    pub(super) origin: EventOrigin,
    pub(super) body: &'a [u8],
}

/// Stores an event from Stripe's API; returns false if it was stored before.
pub(super) async fn store_body(tx: &mut Tx, now: Timestamp, fetched: &Fetched<'_>) -> Result<bool> {
    let Fetched { source, account, origin, body } = *fetched;
    let mut envelope = envelope_of(body);
    if envelope.account.is_empty() {
        account.clone_into(&mut envelope.account);
    }
    let event = NewEvent {
        source_id: &source.id,
        envelope: &envelope,
        received_at: now,
        signature: "",
        secret_position: None,
        origin,
        body,
    };
    events::insert(tx, &event).await
}

/// Wraps a Stripe object into the event that would have stated it. The event's ID depends on the
/// object's, so a repeat is recognized.
pub(super) fn as_event(kind: &str, account: &str, object: &RawValue) -> String {
    as_event_of_state(kind, "", account, object)
}

/// The same for an object that passes through several states. The event ID contains the state, so each state is stored once.
pub(super) fn as_event_of_state(
    kind: &str,
    state: &str,
    account: &str,
    object: &RawValue,
) -> String {
    #[derive(Default, Deserialize)]
    struct Known {
        id: Option<String>,
        created: Option<i64>,
        livemode: Option<bool>,
    }
    // Errors are reported when the event is read; here it only has to be stored.
    let known: Known = serde_json::from_str(object.get()).unwrap_or_default();
    let named = || known.id.clone().filter(|id| !id.is_empty());
    let id = named().unwrap_or_else(|| ids::sha256_hex(object.get().as_bytes())[..32].to_owned());
    let mut event = json!({
        "id": if state.is_empty() { format!("backfill_{id}") } else { format!("backfill_{id}_{state}") },
        "object": "event",
        "api_version": api::VERSION,
        "type": kind,
    });
    if let Some(created) = known.created {
        event["created"] = created.into();
    }
    if let Some(livemode) = known.livemode {
        event["livemode"] = livemode.into();
    }
    if !account.is_empty() {
        event["account"] = account.into();
    }
    let head = event.to_string();
    let head = head.trim_end_matches('}');
    format!("{head},\"data\":{{\"object\":{}}}}}", object.get())
}
