//! The state that all handlers share.
//! Takes the parts that `app` built; returns one handle that is cheap to clone.
//! Guarantees that it contains only handles and wake-ups; everything that must survive is in the
//! database.

use std::ops::Deref;
use std::sync::Arc;

use tokio::sync::Notify;

use crate::clock::Clock;
use crate::config::{Config, Secret};
use crate::ids::ClickIdKey;
use crate::settings::{Settings, Source};
use crate::store::Store;

/// The state of the handlers. Each request gets a copy, so it is one pointer. Lower modules take
/// what they need as arguments instead.
#[derive(Clone)]
pub struct AppState(Arc<Handles>);

impl AppState {
    pub(crate) fn new(handles: Handles) -> Self {
        Self(Arc::new(handles))
    }

    /// The API key of a source; the environment's belongs to `main`.
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

/// The handles of the handlers.
pub struct Handles {
    /// The operator's configuration.
    pub config: Config,
    /// The database.
    pub store: Store,
    /// The settings that users change, in memory.
    pub settings: Settings,
    /// The time.
    pub clock: Clock,
    /// Signs and verifies click IDs.
    pub click_ids: ClickIdKey,
    /// Wakes the workers.
    pub wakeups: Wakeups,
}

/// Wake-ups of the workers. They are hints: another process may have written too, so every worker
/// also polls.
#[derive(Debug, Default)]
pub struct Wakeups {
    /// A Stripe event or a page event was stored.
    pub event_stored: Notify,
    /// A visit was recorded, which a conversion may be waiting for.
    pub visit_recorded: Notify,
    /// A delivery was queued.
    pub delivery_queued: Notify,
    /// A delivery was queued whose message a mapping has to build.
    pub facts_stored: Notify,
}
