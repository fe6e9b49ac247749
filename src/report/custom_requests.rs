//! The postbacks that were received. Takes a postback source, a conversion or a request's ID;
//! returns the raw requests and their results. Guarantees that each statement reads only the end of
//! an index, however many requests are stored.

use anyhow::{Context as _, Result};

use crate::clock::Timestamp;
use crate::store::{Store, from_row, sql};

/// One postback as received.
#[derive(Clone, Debug)]
pub(crate) struct CustomRequest {
    /// `crq_…`.
    pub(crate) id: String,
    pub(crate) source_id: String,
    pub(crate) received_at: Timestamp,
    pub(crate) method: String,
    /// Percent-encoded.
    pub(crate) query: String,
    /// As sent; may be empty.
    pub(crate) content_type: String,
    /// As received; invalid UTF-8 is replaced.
    pub(crate) body: String,
    /// recorded, repeated, refused.
    pub(crate) state: String,
    /// The conversion that it created or repeated.
    pub(crate) conversion_id: Option<String>,
    pub(crate) error: Option<String>,
    pub(crate) parameter: Option<String>,
    pub(crate) warnings: Vec<String>,
}

from_row!(CustomRequest |row| {
    id, source_id, received_at, method, query, content_type,
    body: String::from_utf8_lossy(&row.get::<Vec<u8>>("body")?).into_owned(), state, conversion_id,
    error, parameter, warnings: row.get::<String>("warnings")?.lines().map(str::to_owned).collect(),
});

/// What every reader of requests selects.
const REQUESTS: &str = "select id, source_id, received_at_ms as received_at, method, query, content_type, body, state, conversion_id, error, parameter,
            warnings
       from custom_requests";

/// Selects requests of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CustomRequests {
    /// Those that created or repeated a conversion.
    Taken,
    /// Those that were rejected.
    Refused,
}

/// The newest requests of a source.
pub(crate) async fn custom_requests(
    store: &Store,
    source_id: &str,
    which: CustomRequests,
    limit: i64,
) -> Result<Vec<CustomRequest>> {
    let states: &[&str] = match which {
        CustomRequests::Taken => &["recorded", "repeated"],
        CustomRequests::Refused => &["refused"],
    };
    sql(REQUESTS)
        .then("where source_id = :source_id and state in (:states) order by id desc limit :limit")
        .set("source_id", source_id)
        .set_list("states", states, 2)
        .set("limit", limit)
        .all(store.pool())
        .await
        .context("could not list custom requests")
}

/// One request.
pub(crate) async fn custom_request(store: &Store, id: &str) -> Result<Option<CustomRequest>> {
    sql(REQUESTS)
        .then("where id = :id")
        .set("id", id)
        .optional(store.pool())
        .await
        .context("could not read a custom request")
}

/// Maximum number of requests shown for one conversion.
const OF_CONVERSION: i64 = 50;

pub(super) async fn of_conversion(store: &Store, id: &str) -> Result<Vec<CustomRequest>> {
    sql(REQUESTS)
        .then("where conversion_id = :id order by id limit :limit")
        .set("id", id)
        .set("limit", OF_CONVERSION)
        .all(store.pool())
        .await
        .context("could not list a conversion's requests")
}
