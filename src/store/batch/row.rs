//! Rows for the group-commit writer, and the descriptions of the tables that it writes.
//! Takes values of a module; the writers of both engines read them.
//! Contains no statements.

use std::borrow::Cow;

use crate::store::Value;

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Int,
    Text,
}

/// The table that the writer fills: its columns in order, and its unique key.
pub(crate) struct Batch {
    pub(crate) table: &'static str,
    pub(crate) columns: &'static [(&'static str, Kind)],
    /// The columns of the unique key. A row that violates any unique key of the table is a
    /// duplicate.
    pub(crate) key: &'static [&'static str],
}

/// The counters that it increases: one row per distinct key, and the column with the count.
pub(crate) struct Tally {
    pub(crate) table: &'static str,
    pub(crate) columns: &'static [(&'static str, Kind)],
    pub(crate) count: &'static str,
}

/// One value of a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Cell {
    Null,
    Int(i64),
    Text(Cow<'static, str>),
}

impl Cell {
    /// The value of a statement's parameter for a column of this type.
    pub(crate) fn stored_as(&self, kind: Kind) -> Value {
        match (self, kind) {
            (Self::Int(number), _) => Value::Int(Some(*number)),
            (Self::Text(text), _) => Value::Text(Some(text.clone().into_owned())),
            (Self::Null, Kind::Int) => Value::Int(None),
            (Self::Null, Kind::Text) => Value::Text(None),
        }
    }
}

impl From<i64> for Cell {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<String> for Cell {
    fn from(value: String) -> Self {
        Self::Text(value.into())
    }
}

impl From<&'static str> for Cell {
    fn from(value: &'static str) -> Self {
        Self::Text(value.into())
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// A row, and the key of the counter that it increases if it is new.
pub(crate) struct NewRow {
    pub(crate) cells: Vec<Cell>,
    pub(crate) tally: Option<Vec<Cell>>,
}

/// The result for a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inserted {
    New,
    Duplicate,
}

pub(super) fn names(columns: &[(&str, Kind)]) -> String {
    columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}
