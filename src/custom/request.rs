//! A request of a sender, as received and as stored.
//! Takes nothing and returns nothing: only the values that the other files of this module share.

use crate::clock::Timestamp;

/// A request as received.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    /// GET or POST.
    pub(crate) method: String,
    /// Percent-encoded.
    pub(crate) query: String,
    pub(crate) content_type: String,
    pub(crate) body: Vec<u8>,
}

/// A request to be stored.
pub(super) struct Kept {
    pub(super) id: String,
    pub(super) source_id: String,
    pub(super) received_at: Timestamp,
    pub(super) request: Request,
}
