//! Words of conversions and of the match.

use std::fmt;

use serde::{Serialize, Serializer};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use super::{Word, words};
use crate::store::{BoxDynError, FromSql, ToSql, Value};

words! {
    /// What has become of a payment.
    pub enum ConversionStatus {
        /// A delayed payment method: the money may still come.
        Pending = "pending",
        /// The amount is reserved and not captured yet.
        Authorized = "authorized",
        /// The money came.
        Paid = "paid",
        /// It did not come.
        Failed = "failed",
        /// A part was given back.
        PartiallyRefunded = "partially_refunded",
        /// All of it was given back.
        Refunded = "refunded",
        /// The buyer's bank disputes it.
        Disputed = "disputed",
        /// The owner said that it is the receipt of another payment.
        Duplicate = "duplicate",
    }
}

words! {
    /// Whether a conversion has a visit.
    pub enum MatchState {
        /// It has one.
        Matched = "matched",
        /// It has none.
        Unmatched = "unmatched",
    }
}

words! {
    /// The rule by which a conversion was matched, strongest first.
    pub enum MatchRule {
        /// A user chose the visit.
        Manual = "manual",
        /// The payment has our click ID.
        ClickId = "click_id",
        /// The payment has an AnyTrack click ID that was captured with a visit.
        AnytrackClickId = "anytrack_click_id",
        /// A metadata key of the payment has our click ID.
        Metadata = "metadata",
        /// Its thank-you page was visited, or it was matched through an earlier payment of the same
        /// customer or subscription.
        StripeObject = "stripe_object",
    }
}

words! {
    /// Why a conversion has no visit.
    pub enum UnmatchedReason {
        /// The payment has no reference: the payment link has no parameter.
        NoReference = "no_reference",
        /// The reference is still the placeholder: the tag did not run.
        PlaceholderNotReplaced = "placeholder_not_replaced",
        /// The reference has another tool's format.
        ForeignReference = "foreign_reference",
        /// The click ID is genuine, but no visit has arrived.
        UnknownClickId = "unknown_click_id",
        /// The reference has the form of our click IDs and a wrong MAC.
        ForgedClickId = "forged_click_id",
        /// A renewal, refund or dispute of a payment before our start.
        FirstPaymentNotSeen = "first_payment_not_seen",
        /// No ID to match.
        NoObject = "no_object",
    }
}

/// What kind of conversion it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConversionKind {
    /// A payment that is no renewal.
    Purchase,
    /// A later payment of a subscription.
    Renewal,
    /// A subscription that began without a payment.
    Trial,
    /// Something without a payment: a free checkout, a saved card, a form.
    Lead,
    /// An event that a page or a postback reports under a name of its own.
    Custom(String),
}

impl ConversionKind {
    /// The kinds that have names of ours.
    pub const NAMED: [Self; 4] = [Self::Purchase, Self::Renewal, Self::Trial, Self::Lead];

    /// The kind in the database and in the API; of a custom event its name.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Purchase => "purchase",
            Self::Renewal => "renewal",
            Self::Trial => "trial",
            Self::Lead => "lead",
            Self::Custom(name) => name,
        }
    }

    /// True for what should have an amount.
    pub fn is_sale(&self) -> bool {
        matches!(self, Self::Purchase | Self::Renewal)
    }

    /// Reads what [`ConversionKind::as_str`] writes.
    pub fn parse(text: &str) -> Self {
        let named = Self::NAMED.into_iter().find(|kind| kind.as_str() == text);
        named.unwrap_or_else(|| Self::Custom(text.to_owned()))
    }
}

impl fmt::Display for ConversionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for ConversionKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl PartialSchema for ConversionKind {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::String).into()
    }
}

impl ToSchema for ConversionKind {}

impl ToSql for ConversionKind {
    const NULL: Value = Value::Text(None);

    fn to_sql(&self) -> Value {
        self.as_str().to_sql()
    }
}

impl FromSql for ConversionKind {
    type Stored = String;

    fn from_sql(stored: String) -> Result<Self, BoxDynError> {
        Ok(Self::parse(&stored))
    }
}

impl MatchRule {
    /// True if the payment itself names its visit. Only such a match is passed on to other
    /// payments, so that the order in which they are matched does not matter.
    pub fn is_own(self) -> bool {
        self != Self::StripeObject
    }
}

impl UnmatchedReason {
    /// The reason of a stored text; a missing one counts as [`UnmatchedReason::NoObject`].
    pub fn or_no_object(text: Option<&str>) -> Self {
        text.and_then(Self::parse).unwrap_or(Self::NoObject)
    }
}
