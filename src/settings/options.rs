//! The options of a destination: which conversions it receives, when, in which form and how fast.
//! Takes stored JSON; returns one record, and JSON again.
//! Guarantees that what an earlier version stored is read: a missing option has its default.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::words;

/// Options of a destination, stored as JSON; a missing one has its default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DestinationOptions {
    /// Send our own click ID as `clickid` if AnyTrack's is not known.
    pub falls_back_to_our_click_id: bool,
    /// AnyTrack's property ID: IDs that begin with it are AnyTrack's own.
    pub anytrack_property: Option<String>,
    /// Experimental: the server registers visits with AnyTrack, under its property ID.
    pub registers_visits: bool,
    /// The base URL where AnyTrack collects visits.
    pub anytrack_collect_base: String,
    /// Send unmatched conversions that have another key, such as an email address.
    pub sends_unmatched: bool,
    /// Send purchases.
    pub sends_purchases: bool,
    /// Send renewals.
    pub sends_renewals: bool,
    /// Send custom events.
    pub sends_custom: bool,
    /// Keys of the sites whose conversions are sent; empty means its own site.
    pub sites: Vec<String>,
    /// Minimum amount: decimal text, in the conversion's currency.
    pub minimum_value: Option<String>,
    /// Maximum age in days of conversions that are sent automatically; `None` means no limit.
    pub max_age_days: Option<u32>,
    /// What to do if the visitor's browser sent Global Privacy Control.
    pub gpc: Discretion,
    /// What to do if the visitor is not known to have given consent.
    pub consent: Discretion,
    /// Stop retrying a delivery after this many days; `None` means never.
    pub expires_days: Option<u32>,
    /// The mapping; `None` means the default message of its kind.
    pub rows: Option<Vec<Row>>,
    /// How the message is encoded.
    pub encoding: Encoding,
    /// Headers of every request.
    pub headers: Vec<Header>,
    /// Send trials, as `Lead`.
    pub sends_trials: bool,
    /// Send leads, as `Lead`.
    pub sends_leads: bool,
    /// Send refunds, as `Refund`.
    pub sends_refunds: bool,
    /// Send lost disputes, as `Chargeback`.
    pub sends_disputes: bool,
    /// Which amount to send.
    pub value: ValueOption,
    /// Texts in the body that make a 2xx response a refusal, in any letter case.
    pub refuse_if_body_contains: Vec<String>,
    /// Additional status codes to retry.
    pub retry_also: Vec<u16>,
    /// Maximum number of concurrent requests; 0 means the default of its kind.
    pub at_a_time: i64,
    /// Rate limit in deliveries per second instead of `CLICKSTAMP_DELIVERY_RATE`; 0 means no limit.
    pub rate: Option<u32>,
}

impl DestinationOptions {
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
        all.into_iter().filter(|(_, is_told)| *is_told).map(|(word, _)| word).collect()
    }

    /// The age after which a conversion is no longer sent automatically.
    pub fn max_age(&self) -> Option<Duration> {
        self.max_age_days.map(|days| Duration::from_secs(u64::from(days) * 86_400))
    }

    /// The age after which a message is too old to send.
    pub fn expires_after(&self) -> Option<Duration> {
        self.expires_days.map(|days| Duration::from_secs(u64::from(days) * 86_400))
    }
}

impl Default for DestinationOptions {
    fn default() -> Self {
        let refusals =
            ["Missing click_id, ref_id and email", "No match found", "not exists anymore"];
        Self {
            falls_back_to_our_click_id: true,
            anytrack_property: None,
            registers_visits: false,
            anytrack_collect_base: "https://t1.anytrack.io".to_owned(),
            sends_unmatched: true,
            sends_purchases: true,
            sends_renewals: true,
            sends_custom: false,
            sites: Vec::new(),
            minimum_value: None,
            // Ad platforms refuse older conversions, and a destination that uses the time of
            // arrival would count them on the wrong day.
            max_age_days: Some(7),
            gpc: Discretion::Send,
            consent: Discretion::Send,
            expires_days: None,
            rows: None,
            encoding: Encoding::Json,
            headers: Vec::new(),
            sends_trials: false,
            sends_leads: false,
            sends_refunds: false,
            sends_disputes: false,
            value: ValueOption::Total,
            refuse_if_body_contains: refusals.map(str::to_owned).to_vec(),
            retry_also: Vec::new(),
            at_a_time: 0,
            rate: None,
        }
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
        assert!(
            options.falls_back_to_our_click_id && options.sends_unmatched && !options.sends_trials
        );
        assert_eq!(options.refuse_if_body_contains.len(), 3);
    }
}
