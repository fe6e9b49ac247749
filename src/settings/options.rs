//! The options of a destination: which conversions it receives, when, in which form and how fast.
//! Takes stored JSON; returns one record, and JSON again.
//! Guarantees that what an earlier version stored is read: a missing option has its default.

#![expect(
    clippy::disallowed_types,
    reason = "code that serde derives for flattened parts; no option is a float"
)]

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use crate::domain::words;

/// Declares a part of the options: each with its type and its default.
macro_rules! options {
    (
        $(#[$of_part:meta])*
        pub struct $part:ident {
            $($(#[$of_option:meta])* $option:ident: $type:ty = $default:expr,)+
        }
    ) => {
        $(#[$of_part])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct $part {
            $($(#[$of_option])* pub $option: $type,)+
        }

        impl Default for $part {
            fn default() -> Self {
                Self { $($option: $default,)+ }
            }
        }
    };
}

/// Options of a destination. The parts share one flat JSON object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationOptions {
    /// Which conversions are sent.
    #[serde(flatten)]
    pub events: Events,
    /// Under which conditions.
    #[serde(flatten)]
    pub limits: Limits,
    /// In which form.
    #[serde(flatten)]
    pub message: MessageOptions,
    /// How fast, and what a response means.
    #[serde(flatten)]
    pub sending: Sending,
    /// Only for AnyTrack.
    #[serde(flatten)]
    pub anytrack: AnyTrackOptions,
}

options! {
    /// Which conversions are sent.
    pub struct Events {
        /// Send purchases.
        sends_purchases: bool = true,
        /// Send renewals.
        sends_renewals: bool = true,
        /// Send trials, as `Lead`.
        sends_trials: bool = false,
        /// Send leads, as `Lead`.
        sends_leads: bool = false,
        /// Send custom events.
        sends_custom: bool = false,
        /// Send refunds, as `Refund`.
        sends_refunds: bool = false,
        /// Send lost disputes, as `Chargeback`.
        sends_disputes: bool = false,
        /// Keys of the sites whose conversions are sent; empty means its own site.
        sites: Vec<String> = Vec::new(),
    }
}

options! {
    /// Conditions of a destination. The API shows all of them.
    #[derive(utoipa::ToSchema)]
    pub struct Limits {
        /// True if unmatched conversions are sent too, which have another key such as an email
        /// address.
        sends_unmatched: bool = true,
        /// Minimum amount, in the conversion's currency; null means none.
        minimum_value: Option<String> = None,
        /// Maximum age in days of conversions that are sent automatically; null means no limit.
        // Ad platforms refuse older conversions, and a destination that uses the time of arrival
        // would count them on the wrong day.
        max_age_days: Option<u32> = Some(7),
        /// Stop retrying a delivery after this many days; null means never.
        expires_days: Option<u32> = None,
        /// What to do if the visitor's browser sent Global Privacy Control.
        gpc: Discretion = Discretion::WithoutPersonal,
        /// What to do if the visitor is not known to have given consent.
        consent: Discretion = Discretion::Send,
    }
}

options! {
    /// The form of the message.
    pub struct MessageOptions {
        /// Which amount to send.
        value: ValueOption = ValueOption::Total,
        /// The mapping; `None` means the default message of its kind.
        rows: Option<Vec<Row>> = None,
        /// How the message is encoded.
        encoding: Encoding = Encoding::Json,
        /// Headers of every request.
        headers: Vec<Header> = Vec::new(),
    }
}

options! {
    /// How messages are sent. The API shows all of it.
    #[derive(utoipa::ToSchema)]
    pub struct Sending {
        /// Maximum number of concurrent requests; null means the default of its kind.
        // An earlier version stored 0 for the default.
        #[serde(deserialize_with = "none_if_zero")]
        at_a_time: Option<u32> = None,
        /// Rate limit in deliveries per second instead of `CLICKSTAMP_DELIVERY_RATE`; 0 means no
        /// limit.
        rate: Option<u32> = None,
        /// Status codes to retry in addition to 408, 425, 429 and all from 500.
        retry_also: Vec<u16> = Vec::new(),
        /// Texts in the body that make a 2xx response a refusal, in any letter case.
        refuse_if_body_contains: Vec<String> =
            ["Missing click_id, ref_id and email", "No match found", "not exists anymore"]
                .map(str::to_owned)
                .to_vec(),
    }
}

options! {
    /// Options that only AnyTrack has.
    pub struct AnyTrackOptions {
        /// Send our own click ID as `clickid` if AnyTrack's is not known.
        falls_back_to_our_click_id: bool = true,
        /// AnyTrack's property ID: IDs that begin with it are AnyTrack's own.
        #[serde(rename = "anytrack_property")]
        property: Option<String> = None,
        /// Experimental: the server registers visits with AnyTrack, under its property ID.
        registers_visits: bool = false,
        /// The base URL where AnyTrack collects visits.
        #[serde(rename = "anytrack_collect_base")]
        collect_base: String = "https://t1.anytrack.io".to_owned(),
    }
}

fn none_if_zero<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    Ok(Option::<u32>::deserialize(from)?.filter(|number| *number > 0))
}

impl Events {
    /// The kinds of conversions to send.
    pub fn kinds(&self) -> Vec<&'static str> {
        let all = [
            ("purchase", self.sends_purchases),
            ("renewal", self.sends_renewals),
            ("trial", self.sends_trials),
            ("lead", self.sends_leads),
            ("custom", self.sends_custom),
            ("refund", self.sends_refunds),
            ("dispute", self.sends_disputes),
        ];
        all.into_iter().filter(|(_, is_sent)| *is_sent).map(|(word, _)| word).collect()
    }
}

impl Limits {
    /// The age after which a conversion is no longer sent automatically.
    pub fn max_age(&self) -> Option<Duration> {
        self.max_age_days.map(|days| Duration::from_secs(u64::from(days) * 86_400))
    }

    /// The age after which a message is too old to send.
    pub fn expires_after(&self) -> Option<Duration> {
        self.expires_days.map(|days| Duration::from_secs(u64::from(days) * 86_400))
    }
}

words! {
    /// Which part of a payment's amount is sent.
    #[derive(Default)]
    pub enum ValueOption {
        /// The total.
        #[default]
        Total = "total",
        /// Without tax.
        Net = "net",
        /// Before discount, tax and shipping.
        Subtotal = "subtotal",
    }
}

words! {
    /// The encoding of a message.
    #[derive(Default)]
    pub enum Encoding {
        /// POST with a JSON object.
        #[default]
        Json = "json",
        /// POST as an HTML form.
        Form = "form",
        /// GET with query parameters.
        Query = "query",
    }
}

words! {
    /// What to do with the conversion of a visitor who asked for privacy or did not give consent.
    #[derive(Default)]
    pub enum Discretion {
        /// Send it, for example because the destination is the user's own tool.
        #[default]
        Send = "send",
        /// Send it without email, name, phone, address, and cookies of ad networks.
        WithoutPersonal = "without_personal",
        /// Do not send it.
        Skip = "skip",
    }
}

words! {
    /// The type of a field.
    #[derive(Default)]
    pub enum RowKind {
        /// A text.
        #[default]
        Text = "text",
        /// A number with its exact digits.
        Number = "number",
        /// A whole number.
        Integer = "integer",
        /// true or false.
        Boolean = "boolean",
        /// Any JSON.
        Json = "json",
    }
}

/// One field of a mapping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The name of the field in the message.
    pub field: String,
    /// Its type.
    pub kind: RowKind,
    /// The expression that computes the value.
    pub expression: String,
    /// If false, the field is left out.
    pub is_on: bool,
}

impl Row {
    /// A field that is on.
    pub fn new(field: &str, kind: RowKind, expression: &str) -> Self {
        Self { field: field.to_owned(), kind, expression: expression.to_owned(), is_on: true }
    }
}

/// A header of every request.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value, a secret.
    pub value: String,
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ***", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_read_from_an_empty_object() {
        let options: DestinationOptions = serde_json::from_str("{}").unwrap();
        assert_eq!(options, DestinationOptions::default());
        assert!(options.limits.sends_unmatched && !options.events.sends_trials);
        assert_eq!(options.sending.refuse_if_body_contains.len(), 3);
    }

    /// Every option, as the version before the parts stored it.
    const STORED: &str = r#"{
        "falls_back_to_our_click_id": false, "anytrack_property": "abcdefABCDEF", "registers_visits": true,
        "anytrack_collect_base": "https://t2.example.com", "sends_unmatched": false, "sends_purchases": false,
        "sends_renewals": false, "sends_custom": true, "sites": ["shop"], "minimum_value": "9.90",
        "max_age_days": 3, "gpc": "skip", "consent": "without_personal", "expires_days": 2,
        "rows": [{"field": "a", "kind": "integer", "expression": "1", "is_on": true}], "encoding": "query",
        "headers": [{"name": "x", "value": "y"}], "sends_trials": true, "sends_leads": true,
        "sends_refunds": true, "sends_disputes": true, "value": "net", "refuse_if_body_contains": ["no"],
        "retry_also": [400], "at_a_time": 5, "rate": 0}"#;

    #[test]
    fn options_that_an_earlier_version_stored_are_read_and_kept_in_their_shape() {
        let stored: serde_json::Value = serde_json::from_str(STORED).unwrap();
        let options: DestinationOptions = serde_json::from_str(STORED).unwrap();
        assert_eq!(serde_json::to_value(&options).unwrap(), stored);
        let all = serde_json::to_value(DestinationOptions::default()).unwrap();
        for (name, value) in all.as_object().unwrap() {
            assert_ne!(stored[name], *value, "{name} is missing above, or has its default");
        }
        let options: DestinationOptions = serde_json::from_str(r#"{"at_a_time": 0}"#).unwrap();
        assert_eq!(options.sending.at_a_time, None);
    }
}
