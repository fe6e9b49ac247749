//! The postbacks that were received. Takes a postback source, a conversion or a request's ID;
//! returns the raw requests and their results. Guarantees that each statement reads only the end of
//! an index, however many requests are stored.

use anyhow::{Context as _, Result};
use sqlx::Row as _;
use sqlx::any::AnyRow;

use crate::clock::Timestamp;
use crate::store::Store;

/// One postback as received.
#[derive(Clone, Debug)]
pub(crate) struct CustomRequest {
    /// `crq_…`.
    pub(crate) id: String,
    /// `src_…`.
    pub(crate) source_id: String,
    /// When it was received.
    pub(crate) received_at: Timestamp,
    /// GET or POST.
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
    /// Why it was rejected.
    pub(crate) error: Option<String>,
    /// The parameter the error is about.
    pub(crate) parameter: Option<String>,
    /// Warnings that the response contained.
    pub(crate) warnings: Vec<String>,
}

/// The columns of all statements that read requests.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "select id, source_id, received_at_ms, method, query, content_type, body, state, conversion_id, error, parameter,
                    warnings
               from custom_requests ",
            $rest
        )
    };
}

/// Selects requests of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CustomRequests {
    /// Those that created or repeated a conversion.
    Taken,
    /// Those that were rejected.
    Refused,
}

/// The newest requests of a source.
///
/// # Errors
/// If the database fails.
pub(crate) async fn custom_requests(
    store: &Store,
    source_id: &str,
    which: CustomRequests,
    limit: i64,
) -> Result<Vec<CustomRequest>> {
    let states = match which {
        CustomRequests::Taken => ["recorded", "repeated"],
        CustomRequests::Refused => ["refused", "refused"],
    };
    let rows = sqlx::query(select!(
        "where source_id = $1 and state in ($2, $3) order by id desc limit $4"
    ))
    .bind(source_id)
    .bind(states[0])
    .bind(states[1])
    .bind(limit)
    .fetch_all(store.pool())
    .await
    .context("could not list custom requests")?;
    rows.iter().map(request).collect()
}

/// One request.
///
/// # Errors
/// If the database fails.
pub(crate) async fn custom_request(store: &Store, id: &str) -> Result<Option<CustomRequest>> {
    let row = sqlx::query(select!("where id = $1"))
        .bind(id)
        .fetch_optional(store.pool())
        .await
        .context("could not read a custom request")?;
    row.as_ref().map(request).transpose()
}

/// Maximum number of requests shown for one conversion.
const OF_CONVERSION: i64 = 50;

pub(super) async fn of_conversion(store: &Store, id: &str) -> Result<Vec<CustomRequest>> {
    let rows = sqlx::query(select!("where conversion_id = $1 order by id limit $2"))
        .bind(id)
        .bind(OF_CONVERSION)
        .fetch_all(store.pool())
        .await
        .context("could not list a conversion's requests")?;
    rows.iter().map(request).collect()
}

fn request(row: &AnyRow) -> Result<CustomRequest> {
    let body: Vec<u8> = row.try_get("body")?;
    let warnings: String = row.try_get("warnings")?;
    Ok(CustomRequest {
        id: row.try_get("id")?,
        source_id: row.try_get("source_id")?,
        received_at: Timestamp::from_ms(row.try_get("received_at_ms")?),
        method: row.try_get("method")?,
        query: row.try_get("query")?,
        content_type: row.try_get("content_type")?,
        body: String::from_utf8_lossy(&body).into_owned(),
        state: row.try_get("state")?,
        conversion_id: row.try_get("conversion_id")?,
        error: row.try_get("error")?,
        parameter: row.try_get("parameter")?,
        warnings: warnings.lines().map(str::to_owned).collect(),
    })
}
