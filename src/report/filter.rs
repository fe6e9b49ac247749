//! Filters of lists, each declared once. Takes the text of a query's parameters; returns filters, or
//! the rule that a value breaks. Guarantees that the API, its schema, the pages, their links and the
//! SQL know the same filters, because all of them read the declaration.

use std::borrow::Cow;
use std::fmt;

use utoipa::ToSchema;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::openapi::{Ref, RefOr, Required};

use crate::clock::Timestamp;
use crate::domain::Word;
use crate::settings::Snapshot;
use crate::store::{Statement, ToSql, Value};

/// A set of optional parameters, declared with [`filter!`].
pub(crate) trait Filter: Default + Sized + 'static {
    /// Its fields, in the order of the API's schema.
    const FIELDS: &'static [Field<Self>];

    /// Appends the SQL of each field that has a value.
    fn conditions(&self, statement: Statement) -> Statement;

    /// The names of its parameters.
    fn names() -> impl Iterator<Item = &'static str> {
        Self::FIELDS.iter().map(|field| field.name)
    }
}

/// One parameter of a filter.
pub(crate) struct Field<F> {
    /// Its name in queries.
    pub(crate) name: &'static str,
    /// Its description in the API's schema.
    pub(super) meaning: &'static str,
    pub(super) schema: fn() -> RefOr<Schema>,
    /// Sets the field.
    pub(crate) read: fn(&mut F, &str, &Known) -> Result<(), Rule>,
    /// The field as queries have it.
    pub(crate) write: fn(&F) -> Option<String>,
}

/// The records that a query can name.
pub(crate) struct Known<'a> {
    pub(crate) settings: &'a Snapshot,
    /// Only records of this site can be named.
    pub(crate) site_id: Option<&'a str>,
}

/// The rule that a value breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// These are the possible values.
    OneOf(Vec<String>),
    /// `must be a number`.
    Must(Cow<'static, str>),
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OneOf(words) => write!(f, "must be one of {}", words.join(", ")),
            Self::Must(rule) => f.write_str(rule),
        }
    }
}

/// How a parameter is written.
pub(crate) trait Kind {
    /// What the filter keeps.
    type Kept;

    /// Reads a parameter that is not empty.
    fn read(text: &str, known: &Known) -> Result<Self::Kept, Rule>;

    /// Writes what [`Kind::read`] reads.
    fn write(kept: &Self::Kept) -> String;

    /// Its schema: a text unless it says otherwise.
    fn schema() -> RefOr<Schema> {
        plain(Type::String)
    }
}

fn must<T>(rule: &'static str) -> Result<T, Rule> {
    Err(Rule::Must(rule.into()))
}

/// A schema of one type.
pub(super) fn plain(of: Type) -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(of).into()
}

impl<W: Word + ToSchema> Kind for W {
    type Kept = W;

    fn read(text: &str, _: &Known) -> Result<W, Rule> {
        let words = || W::ALL.iter().map(|word| word.as_str().to_owned()).collect();
        W::parse(text).ok_or_else(|| Rule::OneOf(words()))
    }

    fn write(kept: &W) -> String {
        kept.as_str().to_owned()
    }

    fn schema() -> RefOr<Schema> {
        Ref::from_schema_name(W::name()).into()
    }
}

impl Kind for bool {
    type Kept = bool;

    fn read(text: &str, _: &Known) -> Result<bool, Rule> {
        text.parse().map_err(|_| Rule::OneOf(vec!["true".to_owned(), "false".to_owned()]))
    }

    fn write(kept: &bool) -> String {
        kept.to_string()
    }

    fn schema() -> RefOr<Schema> {
        plain(Type::Boolean)
    }
}

impl Kind for String {
    type Kept = String;

    fn read(text: &str, _: &Known) -> Result<String, Rule> {
        // PostgreSQL cannot store NUL.
        if text.contains('\0') { must("must not contain NUL") } else { Ok(text.to_owned()) }
    }

    fn write(kept: &String) -> String {
        kept.clone()
    }
}

impl Kind for Timestamp {
    type Kept = Timestamp;

    fn read(text: &str, _: &Known) -> Result<Timestamp, Rule> {
        // The unescaped plus sign of an offset arrives as a space.
        let at = Timestamp::parse(text).or_else(|| Timestamp::parse(&text.replace(' ', "+")));
        let rule = "must be a time like 2026-09-21T14:13:20Z or a date like 2026-09-21";
        at.map_or_else(|| must(rule), Ok)
    }

    fn write(kept: &Timestamp) -> String {
        kept.to_rfc3339()
    }
}

/// A site by its key or ID; kept as the ID.
pub(crate) struct SiteKey;

impl Kind for SiteKey {
    type Kept = String;

    fn read(text: &str, known: &Known) -> Result<String, Rule> {
        let site = known.settings.site_by_key(text).or_else(|| known.settings.site(text));
        site.map_or_else(|| must("must be the key of a site"), |site| Ok(site.id.clone()))
    }

    fn write(kept: &String) -> String {
        kept.clone()
    }
}

/// A destination by its key or ID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DestinationKey {
    /// `dst_…`.
    pub(crate) id: String,
    /// Its short name.
    pub(crate) key: String,
}

impl Kind for DestinationKey {
    type Kept = Self;

    fn read(text: &str, known: &Known) -> Result<Self, Rule> {
        let mut all = known.settings.destinations.iter();
        let found = all.find(|it| {
            (it.key == text || it.id == text) && known.site_id.is_none_or(|id| it.site_id == id)
        });
        let named = |id: &str, key: &str| Self { id: id.to_owned(), key: key.to_owned() };
        let rule = "must be the key of a destination";
        found.map_or_else(|| must(rule), |found| Ok(named(&found.id, &found.key)))
    }

    fn write(kept: &Self) -> String {
        kept.key.clone()
    }
}

impl ToSql for DestinationKey {
    const NULL: Value = Value::Text(None);

    fn to_sql(&self) -> Value {
        self.id.to_sql()
    }
}

/// The parameters of a filter, for the API's schema.
pub(super) fn parameters<F: Filter>() -> Vec<Parameter> {
    let parameter = |field: &Field<F>| {
        ParameterBuilder::new()
            .name(field.name)
            .parameter_in(ParameterIn::Query)
            .required(Required::False)
            .description(Some(field.meaning.trim()))
            .schema(Some((field.schema)()))
            .build()
    };
    F::FIELDS.iter().map(parameter).collect()
}

/// Declares a filter. Each field has a description, a kind, the name of its parameter, and the SQL
/// condition that its value adds. A field without a condition is used by the list's own function.
///
/// ```ignore
/// filter! {
///     /// Selects deliveries.
///     DeliveryFilter {
///         /// The state of the delivery.
///         state: DeliveryState = "state" where "d.state = :state";
///     }
/// }
/// ```
macro_rules! filter {
    (
        $(#[$of_type:meta])*
        $type:ident {$(
            $(#[doc = $meaning:literal])+
            $field:ident: $kind:ty = $name:literal $(where $condition:expr)?;
        )+}
    ) => {
        $(#[$of_type])*
        #[derive(Clone, Debug, Default)]
        pub(crate) struct $type {$(
            $(#[doc = $meaning])+
            pub(crate) $field: Option<<$kind as $crate::report::filter::Kind>::Kept>,
        )+}

        impl $crate::report::filter::Filter for $type {
            const FIELDS: &'static [$crate::report::filter::Field<Self>] = &[$(
                $crate::report::filter::Field {
                    name: $name,
                    meaning: concat!($($meaning),+),
                    schema: <$kind as $crate::report::filter::Kind>::schema,
                    read: |filter, text, known| {
                        let kept = <$kind as $crate::report::filter::Kind>::read(text, known)?;
                        filter.$field = Some(kept);
                        Ok(())
                    },
                    write: |filter| {
                        filter.$field.as_ref().map(<$kind as $crate::report::filter::Kind>::write)
                    },
                },
            )+];

            fn conditions(
                &self,
                statement: $crate::store::Statement,
            ) -> $crate::store::Statement {
                statement$($(.and($condition, self.$field.as_ref()))?)+
            }
        }

        impl utoipa::IntoParams for $type {
            fn into_params(
                _: impl Fn() -> Option<utoipa::openapi::path::ParameterIn>,
            ) -> Vec<utoipa::openapi::path::Parameter> {
                $crate::report::filter::parameters::<Self>()
            }
        }
    };
}
pub(crate) use filter;
