//! What a replay compares: conversions and events, here and rebuilt.
//! Takes nothing and returns nothing: the comparison and the table share these values.

use std::collections::BTreeMap;

/// The compared fields of a conversion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) account: String,
    pub(super) fields: BTreeMap<String, String>,
}

impl Line {
    pub(super) fn field(&self, name: &str) -> String {
        self.fields.get(name).cloned().unwrap_or_default()
    }
}

/// A rebuilt conversion and the one here.
pub(super) struct Pair {
    /// Its ID in the scratch tables.
    pub(super) rebuilt_id: String,
    pub(super) rebuilt: Line,
    /// The ID of the payment here, even if it has no conversion yet.
    pub(super) ours: Option<String>,
    pub(super) here: Option<Line>,
}

/// An event with another final state than before.
pub(super) struct Reread {
    /// `sev_…`.
    pub(super) id: String,
    pub(super) kind: String,
    /// State and reason.
    pub(super) before: (String, Option<String>),
    pub(super) now: (String, Option<String>),
    /// The conversion that it belongs to now.
    pub(super) conversion_id: Option<String>,
}
