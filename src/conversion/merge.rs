//! Merges single facts about a payment.
//! Takes the value known so far and a newly stated one; keeps one of them, by their order alone.
//! Pure: each function is commutative, associative and idempotent, so the order and repetition of
//! events can't change the result.

use std::collections::BTreeMap;

/// Metadata: text values by key.
pub(crate) type Metadata = BTreeMap<String, String>;

/// Keeps the greater of two values; a known value wins over an unknown one.
pub(super) fn later<T: Ord>(mine: &mut Option<T>, other: Option<T>) {
    if other > *mine {
        *mine = other;
    }
}

/// Keeps the smaller of two values; a known value wins over an unknown one.
pub(super) fn earlier<T: Ord>(mine: &mut Option<T>, other: Option<T>) {
    if let Some(other) = other
        && mine.as_ref().is_none_or(|mine| other < *mine)
    {
        *mine = Some(other);
    }
}

/// Keeps the greater value of each key.
pub(super) fn united(mine: &mut Metadata, other: Metadata) {
    for (key, value) in other {
        let mine = mine.entry(key).or_default();
        *mine = std::mem::take(mine).max(value);
    }
}
