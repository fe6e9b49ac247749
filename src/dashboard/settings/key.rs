//! The key of a new site or endpoint. Takes the form and the result of adding it; returns the key, or refuses its field.

use crate::dashboard::form::FormData;
use crate::settings::Added;

/// A site's key is in every copy of the tag.
const MAX_KEY_CHARS: usize = 32;

/// Reads a key that becomes part of `place` (“the tag’s URL”).
pub(super) fn read(form: &mut FormData, place: &str) -> String {
    let key = form.text("key");
    let fits = (1..=MAX_KEY_CHARS).contains(&key.len())
        && key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !fits {
        form.refuse("key", format!("A key has at most {MAX_KEY_CHARS} lowercase letters, digits and dashes. It becomes part of {place}."));
    }
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
        let is_right = |key: &str| {
            let mut form = FormData::default();
            form.set("key", key);
            read(&mut form, "the tag’s address");
            form.is_right()
        };
        for wrong in ["", "Shop", "my shop", "a/b", "ü", &"a".repeat(33)] {
            assert!(!is_right(wrong), "{wrong}");
        }
        assert!(is_right(" shop-2 "));
    }
}
