//! What every door shares.
//! In: the parts that `app` built. Out: one cheap-to-clone handle.
//! Promise: it holds handles and bells only; what must survive is in the database.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::clock::Clock;
use crate::config::Config;
use crate::ids::ClickIdKey;
use crate::settings::Settings;
use crate::store::Store;

/// Handles for the doors. Rooms below take what they need as arguments instead.
#[derive(Clone)]
pub struct AppState {
    /// The operator's configuration.
    pub config: Arc<Config>,
    /// The database.
    pub store: Store,
    /// The owner's records, in memory.
    pub settings: Settings,
    /// The time.
    pub clock: Clock,
    /// Signs and checks click IDs.
    pub click_ids: ClickIdKey,
    /// Wakes the workers.
    pub bells: Arc<Bells>,
}

/// Bells are hints: somebody else may have written too, so every loop also looks by itself.
#[derive(Debug, Default)]
pub struct Bells {
    /// A Stripe event was stored.
    pub event_stored: Notify,
    /// A visit was recorded, which some conversion may be waiting for.
    pub visit_recorded: Notify,
    /// A delivery is owed.
    pub delivery_owed: Notify,
}
