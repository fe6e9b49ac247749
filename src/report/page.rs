//! Pagination of lists, newest first, with cursors. Takes a cursor's text from the client and rows
//! from a table; returns a page and the cursor of the next. Guarantees that the next page neither
//! repeats nor skips a row, even if rows were added meanwhile.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{Schema, Type};

use super::filter::{Kind, Known, Rule, filter, plain};

/// Maximum number of rows of a page.
pub(super) const MAX_LIMIT: i64 = 200;

/// Text that sorts after every record's ID, whatever its prefix, in every collation.
pub(super) const AFTER_ALL_IDS: &str = "zzzzzzzz";

/// Number of IDs in one statement.
pub(super) const FIFTY: usize = 50;

/// The position of a row in its list's order. The next page contains the rows after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// The first sort key: a time in ms.
    pub(super) number: i64,
    /// The second sort key: an ID.
    pub(super) text: String,
}

impl Cursor {
    /// Parses the text that [`fmt::Display`] writes; `None` for anything else.
    pub(crate) fn parse(opaque: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(opaque).ok()?;
        let plain = String::from_utf8(bytes).ok()?;
        let (number, text) = plain.split_once(' ')?;
        let fits = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let text = (fits && !text.is_empty()).then(|| text.to_owned())?;
        Some(Self { number: number.parse().ok()?, text })
    }
}

filter! {
    /// The part of a list that a request asks for.
    Paging {
        /// `next` of an earlier answer.
        cursor: Cursor = "cursor";
        /// 1 to 200; by default 50.
        limit: Limit = "limit";
    }
}

impl Kind for Cursor {
    type Kept = Self;

    fn read(text: &str, _: &Known) -> Result<Self, Rule> {
        let rule = "must be the `next` of an earlier response";
        Self::parse(text).ok_or(Rule::Must(rule.into()))
    }

    fn write(kept: &Self) -> String {
        kept.to_string()
    }
}

/// A number of rows from 1 to [`MAX_LIMIT`].
pub(crate) struct Limit;

impl Kind for Limit {
    type Kept = i64;

    fn read(text: &str, _: &Known) -> Result<i64, Rule> {
        let limit = text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
        let rule = || format!("must be a number from 1 to {MAX_LIMIT}");
        limit.ok_or_else(|| Rule::Must(rule().into()))
    }

    fn write(kept: &i64) -> String {
        kept.to_string()
    }

    fn schema() -> RefOr<Schema> {
        plain(Type::Integer)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(format!("{} {}", self.number, self.text)))
    }
}

/// A page of a list.
#[derive(Clone, Debug)]
pub(crate) struct Page<T> {
    /// In the list's order.
    pub(crate) rows: Vec<T>,
    /// The cursor of the next page; `None` if these are the last rows.
    pub(crate) next: Option<Cursor>,
}

impl<T> Page<T> {
    /// Makes a page of at most `limit` rows. `rows` has one more if there is a next page; its
    /// cursor is then the position of the last row that stays.
    pub(super) fn cut(mut rows: Vec<T>, limit: i64, place: impl Fn(&T) -> Cursor) -> Self {
        let limit = usize::try_from(limit).unwrap_or(0);
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| has_more).map(place);
        Self { rows, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_text_of_a_cursor_is_parsed() {
        let cursor = Cursor { number: 1_790_000_000_000, text: "cnv_0abc".to_owned() };
        assert_eq!(Cursor::parse(&cursor.to_string()), Some(cursor));
        let forged = |plain: &str| URL_SAFE_NO_PAD.encode(plain);
        let rows = [
            String::new(),
            "%%%".to_owned(),
            "cnv_0abc".to_owned(),
            forged("5"),
            forged("5 "),
            forged("x cnv_1"),
            forged("5 cnv_\0"),
            forged("5 cnv_1 6"),
            forged("99999999999999999999 cnv_1"),
        ];
        for text in rows {
            assert_eq!(Cursor::parse(&text), None, "{text:?}");
        }
    }

    #[test]
    fn a_page_has_a_cursor_only_if_there_is_a_next_page() {
        let place = |row: &i64| Cursor { number: *row, text: "x".to_owned() };
        let page = Page::cut(vec![9, 8, 7], 2, place);
        assert_eq!((page.rows.as_slice(), page.next.unwrap().number), ([9, 8].as_slice(), 8));
        assert!(Page::cut(vec![9, 8], 2, place).next.is_none());
        assert!(Page::cut(Vec::new(), 2, place).next.is_none());
    }
}
