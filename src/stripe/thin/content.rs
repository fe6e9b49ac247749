//! What a thin event says, and an event whose object must be fetched.
//! Takes nothing and returns nothing: the reader and the table share these values.

/// The content of a thin event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::stripe) struct Thin {
    /// The type that the snapshot event would have.
    pub(super) kind: String,
    /// The path to fetch; empty if it is not a path of Stripe's API.
    pub(super) path: String,
    /// The snapshot event about the same occurrence.
    pub(super) snapshot_event: Option<String>,
}

/// An event whose object must be fetched.
pub(in crate::stripe) struct ToFetch {
    pub(super) id: String,
    pub(super) event_id: String,
    pub(super) account: String,
    pub(super) kind: String,
    pub(super) source_id: String,
    pub(super) livemode: bool,
    pub(super) body: Vec<u8>,
    pub(super) path: String,
    pub(super) attempts: i64,
}
