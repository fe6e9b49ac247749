//! Rows of a result.
//! Takes a row of the driver. Returns its columns by name or position, or a struct or tuple of them.

use sqlx::any::AnyRow;
use sqlx::{Column as _, ColumnIndex, Error, Result, Row as _};

use super::FromSql;

/// A row of a result.
pub(crate) struct Row(pub(super) AnyRow);

impl Row {
    /// The names of its columns, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.columns().iter().map(|column| column.name())
    }

    /// A column, by name or position.
    ///
    /// # Errors
    /// If there is no such column, or it holds no `T`.
    pub(crate) fn get<T: FromSql>(&self, column: impl Column) -> Result<T> {
        let stored: T::Stored = self.0.try_get(column)?;
        T::from_sql(stored)
            .map_err(|source| Error::ColumnDecode { index: format!("{column:?}"), source })
    }
}

/// The name or the position of a column.
pub(crate) trait Column: ColumnIndex<AnyRow> + Copy + std::fmt::Debug {}

impl<T: ColumnIndex<AnyRow> + Copy + std::fmt::Debug> Column for T {}

/// What a row can be read as: a struct by [`from_row`], or a tuple by position.
pub(crate) trait FromRow: Sized {
    /// Reads it.
    ///
    /// # Errors
    /// If a column is missing or holds something else.
    fn from_row(row: &Row) -> Result<Self>;
}

macro_rules! tuples {
    ($(($($type:ident $at:literal),+))+) => {$(
        impl<$($type: FromSql),+> FromRow for ($($type,)+) {
            fn from_row(row: &Row) -> Result<Self> {
                Ok(($(row.get::<$type>($at)?,)+))
            }
        }
    )+};
}

tuples! {
    (A 0)
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
    (A 0, B 1, C 2, D 3, E 4)
    (A 0, B 1, C 2, D 3, E 4, F 5)
}

/// Reads a struct from the columns that are named like its fields:
/// `from_row!(Visit { click_id, host });`. A field may be read in another way:
/// `from_row!(Visit |row| { click_id, is_bot: row.get::<String>("device")? == "bot" });`
macro_rules! from_row {
    ($type:ident { $($field:ident),+ $(,)? }) => {
        $crate::store::from_row!($type |row| { $($field),+ });
    };
    ($type:ident |$row:ident| { $($field:ident $(: $read:expr)?),+ $(,)? }) => {
        impl $crate::store::FromRow for $type {
            fn from_row($row: &$crate::store::Row) -> sqlx::Result<Self> {
                Ok(Self { $($field: $crate::store::from_row!(@ $row $field $($read)?)),+ })
            }
        }
    };
    (@ $row:ident $field:ident) => { $row.get(stringify!($field))? };
    (@ $row:ident $field:ident $read:expr) => { $read };
}
pub(crate) use from_row;
