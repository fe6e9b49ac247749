//! Values on their way into the database and out of it.
//! Takes times, flags, IDs, texts, bytes and options of them. Returns what the database stores, and the value of a column.
//! Guarantees that a null keeps its type, which PostgreSQL asks for, and that a column that holds something else is an error.

use std::borrow::Cow;

use sqlx::any::AnyArguments;
use sqlx::error::BoxDynError;
use sqlx::{Any, Arguments as _, Decode, Result, Type};

use crate::clock::Timestamp;
use crate::ids::ClickId;
use crate::money::Currency;

/// A value as a database stores it; the type of a null matters to PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// `bigint`.
    Int(Option<i64>),
    /// `text`.
    Text(Option<String>),
    /// `bytea`.
    Bytes(Option<Vec<u8>>),
}

impl Value {
    pub(super) fn add_to(&self, arguments: &mut AnyArguments) -> Result<(), BoxDynError> {
        match self {
            Self::Int(value) => arguments.add(*value),
            Self::Text(value) => arguments.add(value.clone()),
            Self::Bytes(value) => arguments.add(value.clone()),
        }
    }
}

/// What a statement takes.
pub(crate) trait ToSql {
    /// Its null.
    const NULL: Value;

    /// How it is stored.
    fn to_sql(&self) -> Value;
}

impl<T: ToSql + ?Sized> ToSql for &T {
    const NULL: Value = T::NULL;

    fn to_sql(&self) -> Value {
        T::to_sql(self)
    }
}

impl<T: ToSql> ToSql for Option<T> {
    const NULL: Value = T::NULL;

    fn to_sql(&self) -> Value {
        self.as_ref().map_or(T::NULL, T::to_sql)
    }
}

macro_rules! to_sql {
    ($($type:ty: $kind:ident = |$value:ident| $stored:expr;)+) => {$(
        impl ToSql for $type {
            const NULL: Value = Value::$kind(None);

            fn to_sql(&self) -> Value {
                let $value = self;
                Value::$kind(Some($stored))
            }
        }
    )+};
}

to_sql! {
    i64: Int = |value| *value;
    i32: Int = |value| i64::from(*value);
    u32: Int = |value| i64::from(*value);
    u16: Int = |value| i64::from(*value);
    bool: Int = |value| i64::from(*value);
    Timestamp: Int = |value| value.as_ms();
    str: Text = |value| value.to_owned();
    String: Text = |value| value.clone();
    Cow<'_, str>: Text = |value| value.clone().into_owned();
    ClickId: Text = |value| value.as_str().to_owned();
    Currency: Text = |value| value.to_string();
    [u8]: Bytes = |value| value.to_vec();
    Vec<u8>: Bytes = |value| value.clone();
}

impl ToSql for Value {
    const NULL: Self = Self::Text(None);

    fn to_sql(&self) -> Self {
        self.clone()
    }
}

/// What a column can be read as.
pub(crate) trait FromSql: Sized {
    /// How the database stores it.
    type Stored: for<'r> Decode<'r, Any> + Type<Any>;

    /// Reads it.
    ///
    /// # Errors
    /// If the stored value is none of `Self`.
    fn from_sql(stored: Self::Stored) -> Result<Self, BoxDynError>;

    /// Reads a column that may be null.
    ///
    /// # Errors
    /// As [`FromSql::from_sql`], unless a type reads what it does not know as nothing.
    fn from_nullable(stored: Option<Self::Stored>) -> Result<Option<Self>, BoxDynError> {
        stored.map(Self::from_sql).transpose()
    }
}

impl<T: FromSql> FromSql for Option<T> {
    type Stored = Option<T::Stored>;

    fn from_sql(stored: Self::Stored) -> Result<Self, BoxDynError> {
        T::from_nullable(stored)
    }
}

macro_rules! from_sql {
    ($($type:ty: $stored:ty = |$value:ident| $read:expr;)+) => {$(
        impl FromSql for $type {
            type Stored = $stored;

            fn from_sql($value: $stored) -> Result<Self, BoxDynError> {
                $read
            }
        }
    )+};
}

from_sql! {
    i64: i64 = |value| Ok(value);
    u64: i64 = |value| Ok(u64::try_from(value)?);
    u32: i64 = |value| Ok(u32::try_from(value)?);
    u16: i64 = |value| Ok(u16::try_from(value)?);
    usize: i64 = |value| Ok(usize::try_from(value)?);
    bool: i64 = |value| Ok(value != 0);
    Timestamp: i64 = |value| Ok(Self::from_ms(value));
    String: String = |value| Ok(value);
    Vec<u8>: Vec<u8> = |value| Ok(value);
    Currency: String = |value| Self::parse(&value).ok_or_else(|| format!("{value:?} is no currency").into());
}
