//! The closed lists of words that the whole program shares: states, statuses, kinds, rules, reasons.
//! Each list is one enum. Its declaration gives the text, the parser, the list of all values, JSON,
//! the API's schema and the encoding in the database.
//! Guarantees that a value without an explanation on a page does not compile, because every `match`
//! names all values. Imports nothing of the program but the storage's traits.

mod alert;
mod conversion;
mod delivery;
mod event;
pub(crate) mod flags;
mod rollup;
mod visit;

pub use alert::{AlertKind, AlertPhase};
pub use conversion::{ConversionKind, ConversionStatus, MatchRule, MatchState, UnmatchedReason};
pub use delivery::{AttemptOutcome, DeliveryReason, DeliveryState, FailureReason, SkipReason};
pub use event::{ApartReason, EventOrigin, EventState, HeldReason, IgnoredReason};
pub(crate) use rollup::{QUARTER_MS, QUARTERS_A_DAY, WIDER};
pub use visit::{Channel, Device};

/// A value of a closed list.
pub trait Word: Copy + Eq + Sized + 'static {
    /// Every value, in the order of its declaration.
    const ALL: &'static [Self];

    /// The value in the database, in the API and in logs.
    fn as_str(self) -> &'static str;

    /// Reads what [`Word::as_str`] writes; `None` for anything else.
    fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|value| value.as_str() == text)
    }
}

/// Declares an enum whose values are words.
macro_rules! words {
    (
        $(#[$of_type:meta])*
        $visible:vis enum $type:ident {
            $($(#[$of_value:meta])* $value:ident = $text:literal,)+
        }
    ) => {
        $(#[$of_type])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $visible enum $type {
            $($(#[$of_value])* $value,)+
        }

        impl $crate::domain::Word for $type {
            const ALL: &'static [Self] = &[$(Self::$value,)+];

            fn as_str(self) -> &'static str {
                match self {
                    $(Self::$value => $text,)+
                }
            }
        }

        $crate::domain::is_text!($type);
    };
}

/// Gives a [`Word`] its text form in the database, in JSON, in the API's schema and in messages.
macro_rules! is_text {
    ($type:ident) => {
        impl $crate::store::ToSql for $type {
            const NULL: $crate::store::Value = $crate::store::Value::Text(None);

            fn to_sql(&self) -> $crate::store::Value {
                $crate::domain::Word::as_str(*self).to_sql()
            }
        }

        impl $crate::store::FromSql for $type {
            type Stored = String;

            fn from_sql(stored: String) -> Result<Self, $crate::store::BoxDynError> {
                <Self as $crate::domain::Word>::parse(&stored)
                    .ok_or_else(|| format!("unknown word {stored:?}").into())
            }

            /// A word that a newer version wrote, as during a rolling update, is no word here.
            fn from_nullable(
                stored: Option<String>,
            ) -> Result<Option<Self>, $crate::store::BoxDynError> {
                Ok(stored.as_deref().and_then(<Self as $crate::domain::Word>::parse))
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str($crate::domain::Word::as_str(*self))
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str($crate::domain::Word::as_str(*self))
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'_, str>>::deserialize(deserializer)?;
                <Self as $crate::domain::Word>::parse(&text)
                    .ok_or_else(|| serde::de::Error::custom(format!("unknown word {text:?}")))
            }
        }

        impl utoipa::PartialSchema for $type {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                $crate::domain::schema(
                    <Self as $crate::domain::Word>::ALL
                        .iter()
                        .map(|value| $crate::domain::Word::as_str(*value)),
                )
            }
        }

        impl utoipa::ToSchema for $type {}
    };
}
pub(crate) use {is_text, words};

/// The schema of a text that is one of these.
pub(crate) fn schema(
    words: impl Iterator<Item = &'static str>,
) -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
    let text = utoipa::openapi::schema::ObjectBuilder::new()
        .schema_type(utoipa::openapi::schema::Type::String);
    text.enum_values(Some(words)).into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Debug;

    use super::*;

    fn assert_words<W: Word + Debug>() {
        let texts: BTreeSet<&str> = W::ALL.iter().map(|value| value.as_str()).collect();
        assert_eq!(texts.len(), W::ALL.len(), "{texts:?}");
        for value in W::ALL {
            assert_eq!(W::parse(value.as_str()), Some(*value));
        }
        assert_eq!(W::parse("no such word"), None);
    }

    #[test]
    fn a_word_of_a_newer_version_is_read_as_none_where_the_column_may_be_null() {
        use crate::store::FromSql as _;
        let read = |word: &str| Option::<SkipReason>::from_sql(Some(word.to_owned())).unwrap();
        assert_eq!(read("too_old"), Some(SkipReason::TooOld));
        assert_eq!(read("a reason of tomorrow"), None);
        assert!(SkipReason::from_sql("a reason of tomorrow".to_owned()).is_err());
    }

    #[test]
    fn every_word_is_read_as_it_is_written() {
        assert_words::<ConversionStatus>();
        assert_words::<MatchState>();
        assert_words::<MatchRule>();
        assert_words::<UnmatchedReason>();
        assert_words::<DeliveryState>();
        assert_words::<SkipReason>();
        assert_words::<FailureReason>();
        assert_words::<DeliveryReason>();
        assert_words::<AttemptOutcome>();
        assert_words::<EventState>();
        assert_words::<EventOrigin>();
        assert_words::<HeldReason>();
        assert_words::<IgnoredReason>();
        assert_words::<ApartReason>();
        assert_words::<Channel>();
        assert_words::<Device>();
        assert_words::<AlertKind>();
        assert_words::<AlertPhase>();
    }
}
