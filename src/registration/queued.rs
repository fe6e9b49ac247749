//! A visit to register, and a registration that was claimed.
//! Takes nothing and returns nothing: only the values that the worker and the table share.

use crate::clock::Timestamp;

/// A visit to register.
pub(super) struct Visited {
    pub(super) click_id: String,
    pub(super) at: Timestamp,
    pub(super) url: String,
    pub(super) referrer: Option<String>,
    pub(super) user_agent: String,
}

/// A claimed registration.
pub(super) struct Claim {
    pub(super) click_id: String,
    pub(super) url: String,
    pub(super) user_agent: String,
    pub(super) n: i64,
    pub(super) created_at: Timestamp,
}
