//! Pages of a list: newest first, continued by a cursor.
//! In: a cursor's text from outside, rows from a table. Out: a place in the order; a page and the place where the next begins.
//! Promise: a page that follows another neither repeats nor skips a row, however many were added meanwhile.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Most rows of a page.
pub(crate) const MAX_LIMIT: i64 = 200;

/// Greater than every record's ID, whatever its prefix, in every collation.
pub(super) const AFTER_ALL_IDS: &str = "zzzzzzzz";

/// How many records one statement of [`in_fifty`] asks for.
pub(super) const FIFTY: usize = 50;

/// One SQL text that ends in a list of fifty IDs, `$1` to `$50`: neither engine can bind a list through the shared driver.
macro_rules! in_fifty {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            " in ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
                  $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38,
                  $39, $40, $41, $42, $43, $44, $45, $46, $47, $48, $49, $50)
             ",
            $after
        )
    };
}
pub(super) use in_fifty;

/// The place of a row in its list's order: everything after it comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// The order's number: a time in ms.
    pub(super) number: i64,
    /// The order's text: an ID.
    pub(super) text: String,
}

impl Cursor {
    /// Reads what [`fmt::Display`] wrote; `None` for anything else.
    pub(crate) fn parse(opaque: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(opaque).ok()?;
        let plain = String::from_utf8(bytes).ok()?;
        let (number, text) = plain.split_once(' ')?;
        let fits = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let text = (fits && !text.is_empty()).then(|| text.to_owned())?;
        Some(Self { number: number.parse().ok()?, text })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(format!("{} {}", self.number, self.text)))
    }
}

/// Some rows of a list.
#[derive(Clone, Debug)]
pub(crate) struct Page<T> {
    /// In the list's order.
    pub(crate) rows: Vec<T>,
    /// Where the next page begins; `None` when these are the last rows.
    pub(crate) next: Option<Cursor>,
}

impl<T> Page<T> {
    /// Cuts rows, of which one more than `limit` was asked for, and remembers the place of the last that stays.
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
    fn a_cursor_reads_back_and_nothing_else_does() {
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
    fn a_page_names_the_next_only_when_there_is_one() {
        let place = |row: &i64| Cursor { number: *row, text: "x".to_owned() };
        let page = Page::cut(vec![9, 8, 7], 2, place);
        assert_eq!((page.rows.as_slice(), page.next.unwrap().number), ([9, 8].as_slice(), 8));
        assert!(Page::cut(vec![9, 8], 2, place).next.is_none());
        assert!(Page::cut(Vec::new(), 2, place).next.is_none());
    }
}
