//! The closed lists of words that the API accepts and answers.
//! Takes the lists of the modules that own the words; returns each as text and as an enum of the OpenAPI schema.
//! Filters, answers and the schema read the same list, so they cannot disagree.

use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::conversion::join::{By, Reason};
use crate::destination::Skip;

/// Why a delivery was given up.
pub(super) const GIVEN_UP: [&str; 6] =
    ["exhausted", "refused", "blocked_address", "mapping_error", "expired", "destination_deleted"];

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident = $all:expr;)+) => {$(
        $(#[$doc])*
        pub(super) struct $name;

        impl $name {
            /// Every word.
            pub(super) fn all() -> Vec<&'static str> {
                $all
            }
        }

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let text = ObjectBuilder::new().schema_type(Type::String);
                text.enum_values(Some(Self::all())).into()
            }
        }

        impl ToSchema for $name {}
    )+};
}

words! {
    /// States of a delivery.
    DeliveryState = vec!["pending", "delivered", "given_up", "held", "skipped"];
    /// Why a delivery was given up or skipped.
    DeliveryReason = GIVEN_UP.into_iter().chain(Skip::ALL.map(Skip::word)).collect();
    /// States of a Stripe event.
    EventState = vec!["received", "processed", "ignored", "failed", "held"];
    /// Statuses of a conversion.
    ConversionStatus = vec![
        "pending", "authorized", "paid", "failed", "partially_refunded", "refunded", "disputed", "duplicate",
    ];
    /// Whether a conversion has a visit.
    MatchState = vec!["matched", "unmatched"];
    /// By which rule a conversion was matched.
    MatchRule = By::ALL.map(By::word).to_vec();
    /// Why a conversion is unmatched.
    UnmatchedReason = Reason::ALL.map(Reason::word).to_vec();
}
