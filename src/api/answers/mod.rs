//! The types of the responses.
//! Takes what `report` found, and the settings, whose keys replace record IDs; returns JSON.
//! Guarantees that field names and words stay stable, that amounts are exact decimal text, and that
//! times are RFC 3339 in UTC to the second.

/// Declares the type of an answer: its fields, and their values from what was found.
///
/// ```ignore
/// answer! {
///     /// One site.
///     pub(crate) struct Site = |found: &settings::Site| {
///         /// The name that users see.
///         name: String = found.name.clone(),
///     }
/// }
/// ```
macro_rules! answer {
    (
        $(#[$of_type:meta])*
        $public:vis struct $type:ident = |$($given:ident: $given_type:ty),+ $(,)?| {
            $($(#[$of_field:meta])* $field:ident: $field_type:ty = $value:expr,)+
        }
    ) => {
        $(#[$of_type])*
        #[derive(Serialize, ToSchema)]
        $public struct $type {
            $($(#[$of_field])* $field: $field_type,)+
        }

        impl $type {
            $public fn new($($given: $given_type),+) -> Self {
                Self { $($field: $value,)+ }
            }
        }
    };
}

mod conversion;
mod delivery;
mod overview;
mod settings;
mod stripe_event;
mod visit;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::clock::Timestamp;
use crate::money::{Money, Totals};
use crate::report::{self, Share};
use crate::settings::Snapshot;

pub(super) use conversion::Conversion;
pub(super) use delivery::Delivery;
pub(super) use overview::Overview;
pub(super) use settings::{Destination, Link, Site, Source};
pub(super) use stripe_event::StripeEvent;
pub(super) use visit::Visit;

/// A list with the cursor of its next page.
#[derive(Serialize, ToSchema)]
pub(super) struct List<T> {
    /// In the list's order.
    pub(super) data: Vec<T>,
    /// The value of `cursor=` for the next page; null if there is none.
    pub(super) next: Option<String>,
}

impl<T> List<T> {
    /// A list without further pages.
    pub(super) fn whole(data: Vec<T>) -> Self {
        Self { data, next: None }
    }

    /// A page of a list.
    pub(super) fn page<R>(page: report::Page<R>, shape: impl Fn(R) -> T) -> Self {
        let next = page.next.map(|cursor| cursor.to_string());
        Self { data: page.rows.into_iter().map(shape).collect(), next }
    }
}

/// A number from 0 to 1 with at most four decimals, computed with integers; rounded down, so that 1
/// means all.
pub(super) struct Rate(i64);

impl Rate {
    fn of(share: Share) -> Option<Self> {
        share.per_ten_thousand().map(Self)
    }

    fn decimal(&self) -> String {
        let text = format!("{}.{:04}", self.0 / 10_000, self.0 % 10_000);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let number = RawValue::from_string(self.decimal()).map_err(serde::ser::Error::custom)?;
        number.serialize(serializer)
    }
}

impl PartialSchema for Rate {
    fn schema() -> RefOr<Schema> {
        let number = ObjectBuilder::new().schema_type(Type::Number);
        number.minimum(Some(0_i32)).maximum(Some(1_i32)).into()
    }
}

impl ToSchema for Rate {}

/// An amount in one currency.
#[derive(Serialize, ToSchema)]
pub(super) struct Amount {
    /// Three letters.
    #[schema(example = "USD")]
    currency: String,
    /// Exact decimal text in the currency's own precision.
    #[schema(example = "102.60")]
    amount: String,
}

fn amounts(totals: &Totals) -> Vec<Amount> {
    let amount = |sum: Money| Amount { currency: code(sum), amount: sum.decimal() };
    totals.iter().map(amount).collect()
}

fn code(money: Money) -> String {
    money.currency.code().to_owned()
}

fn time(at: Timestamp) -> String {
    at.to_rfc3339()
}

/// A record that another replica created a moment ago may not be in memory yet; then its ID is
/// used.
fn site_key(settings: &Snapshot, id: String) -> String {
    settings.site(&id).map_or(id, |site| site.key.clone())
}

fn source_key(settings: &Snapshot, id: String) -> String {
    settings.source(&id).map_or(id, |source| source.key.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_an_exact_number() {
        let rows = [
            (0, 4, "0"),
            (1, 1, "1"),
            (1, 2, "0.5"),
            (1, 3, "0.3333"),
            (2, 3, "0.6666"),
            (9_999_999, 10_000_000, "0.9999"),
            (1, 10_000, "0.0001"),
            (1, 10, "0.1"),
        ];
        for (part, whole, expected) in rows {
            let rate = Rate::of(Share { part, whole });
            assert_eq!(serde_json::to_string(&rate).unwrap(), expected, "{part} of {whole}");
        }
        assert_eq!(serde_json::to_string(&Rate::of(Share::default())).unwrap(), "null");
    }
}
