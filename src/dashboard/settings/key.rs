//! The key that a new site or source is given.
//! In: what was entered, and what became of it. Out: the form's field, with the fault beside it.

use crate::dashboard::views::{Field, entered};
use crate::settings::Added;

/// A site’s stands in every body of the tag.
const MAX_KEY_CHARS: usize = 32;

/// The field of a key that will stand in `place` (“the tag’s address”).
pub(super) fn read(sent: &str, place: &str) -> Field {
    let mut key = Field::of(entered(Some(sent)).unwrap_or_default());
    let fits = (1..=MAX_KEY_CHARS).contains(&key.value.len())
        && key.value.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    key.error = (!fits).then(|| {
        format!("A key has small letters, digits and dashes, at most {MAX_KEY_CHARS}. It stands in {place}.")
    });
    key
}

/// Why nothing was added under a key; `None` when it was. `others` are who else may have it, `most` the number of `things` there may be.
pub(super) fn fault(added: &Added, others: &str, most: usize, things: &str) -> Option<String> {
    match added {
        Added::Done => None,
        Added::KeyTaken => Some(format!("{others} has this key. Choose another one.")),
        Added::TooMany => Some(format!("There are {most} {things} already, and no room for more.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_fits_into_an_address() {
        for wrong in ["", "Shop", "my shop", "a/b", "ü", &"a".repeat(33)] {
            assert!(read(wrong, "the tag’s address").error.is_some(), "{wrong}");
        }
        assert_eq!(read(" shop-2 ", "the tag’s address").error, None);
    }
}
