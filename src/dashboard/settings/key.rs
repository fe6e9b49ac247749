//! The key of a new site or endpoint. Takes the entered key and the result of adding it; returns the form's field with
//! its error.

use crate::dashboard::views::{Field, entered};
use crate::settings::Added;

/// A site's key is in every copy of the tag.
const MAX_KEY_CHARS: usize = 32;

/// The field of a key that becomes part of `place` (“the tag’s URL”).
pub(super) fn read(sent: &str, place: &str) -> Field {
    let mut key = Field::of(entered(Some(sent)).unwrap_or_default());
    let fits = (1..=MAX_KEY_CHARS).contains(&key.value.len())
        && key.value.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    key.error = (!fits).then(|| {
        format!("A key has at most {MAX_KEY_CHARS} lowercase letters, digits and dashes. It becomes part of {place}.")
    });
    key
}

/// The error if adding failed. `others` names what else may have the key; `most` is the maximum number of `things`.
pub(super) fn fault(added: &Added, others: &str, most: usize, things: &str) -> Option<String> {
    match added {
        Added::Done => None,
        Added::KeyTaken => Some(format!("{others} already has this key. Choose a different one.")),
        Added::TooMany => Some(format!("You already have {most} {things}, which is the maximum.")),
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
