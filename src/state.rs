//! What every door shares.
//! In: the parts that `app` built. Out: one cheap-to-clone handle.
//! Promise: it holds handles and bells only; what must survive is in the database.

use std::ops::Deref;
use std::sync::Arc;

use tokio::sync::Notify;

use crate::clock::Clock;
use crate::config::{Config, Secret};
use crate::ids::ClickIdKey;
use crate::settings::{Settings, Source};
use crate::store::Store;

/// What the doors are given; each request takes a copy, so it is one pointer. Rooms below take what they need as arguments instead.
#[derive(Clone)]
pub struct AppState(Arc<Handles>);

impl AppState {
    pub(crate) fn new(handles: Handles) -> Self {
        Self(Arc::new(handles))
    }

    /// The key of Stripe's API that a source has itself; the environment's is that of `main`.
    pub(crate) fn api_key_of<'a>(&'a self, source: &'a Source) -> Option<&'a Secret> {
        let of_main = self.config.stripe_api_key.as_ref().filter(|_| source.key == "main");
        of_main.or(source.api_key.as_ref())
    }
}

impl Deref for AppState {
    type Target = Handles;
    fn deref(&self) -> &Handles {
        &self.0
    }
}

/// Handles for the doors.
pub struct Handles {
    /// The operator's configuration.
    pub config: Config,
    /// The database.
    pub store: Store,
    /// The owner's records, in memory.
    pub settings: Settings,
    /// The time.
    pub clock: Clock,
    /// Signs and checks click IDs.
    pub click_ids: ClickIdKey,
    /// Wakes the workers.
    pub bells: Bells,
}

/// Bells are hints: somebody else may have written too, so every loop also looks by itself.
#[derive(Debug, Default)]
pub struct Bells {
    /// An event of Stripe's or of a page was stored.
    pub event_stored: Notify,
    /// A visit was recorded, which some conversion may be waiting for.
    pub visit_recorded: Notify,
    /// A delivery is owed.
    pub delivery_owed: Notify,
    /// A delivery was queued whose message a mapping has to make.
    pub facts_stored: Notify,
}
