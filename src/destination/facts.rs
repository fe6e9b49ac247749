//! The facts about a conversion that may leave the server.
//! Takes what `conversion` gathers; returns the conversion as the API and webhooks show it, and the
//! names that mappings may use.
//! Guarantees that nothing else leaves, that amounts are exact decimal text, and that a name
//! without a value is missing instead of null.

use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::domain::{ConversionKind, ConversionStatus, MatchRule, MatchState, UnmatchedReason};
use crate::money::{Money, share};

/// One conversion: the `data` of a webhook, and a conversion in the API without its deliveries.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Conversion {
    /// `cnv_…`.
    pub(crate) id: String,
    /// The site's key.
    pub(crate) site: String,
    /// The source's key.
    pub(crate) source: String,
    /// purchase, renewal, trial, lead, or a custom event name.
    pub(crate) kind: ConversionKind,
    /// The status of the payment.
    pub(crate) status: ConversionStatus,
    /// Live or test.
    pub(crate) livemode: bool,
    /// When the payment happened.
    pub(crate) occurred_at: String,
    /// The amount as exact decimal text; null if no event stated it.
    pub(crate) amount: Option<String>,
    /// Three letters; null if no event stated it.
    pub(crate) currency: Option<String>,
    /// The refunded amount.
    pub(crate) refunded: Option<String>,
    /// The amount that open disputes withhold.
    pub(crate) disputed: Option<String>,
    /// The amount that lost disputes took.
    pub(crate) lost: Option<String>,
    /// When it was paid; null if it was not, and then it is no revenue.
    pub(crate) paid_at: Option<String>,
    /// The transaction ID that destinations receive.
    pub(crate) transaction_id: String,
    /// The reference that Stripe returned.
    pub(crate) client_reference_id: Option<String>,
    /// The buyer's email address.
    pub(crate) email: Option<String>,
    /// The match.
    #[serde(rename = "match")]
    pub(crate) joined: Match,
    /// The customer journey, first touch first.
    pub(crate) touches: Vec<Touch>,
}

/// The match of a conversion.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Match {
    /// Whether there is a visit.
    pub(crate) state: MatchState,
    /// The rule that found the visit.
    pub(crate) by: Option<MatchRule>,
    /// Why it is unmatched.
    pub(crate) reason: Option<UnmatchedReason>,
    /// The click ID of the visit that it is matched to.
    pub(crate) click_id: Option<String>,
}

/// One touchpoint of a customer journey.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Touch {
    /// `ck_…`.
    pub(crate) click_id: String,
    /// When the visit began.
    pub(crate) at: String,
    /// google, newsletter, …
    pub(crate) source: Option<String>,
    /// cpc, email, …
    pub(crate) medium: Option<String>,
    /// The campaign's name.
    pub(crate) campaign: Option<String>,
    /// The path of the landing page.
    pub(crate) landing_path: Option<String>,
}

/// What happened to a conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// It was paid.
    Paid,
    /// This additional amount was refunded.
    Refund(Money),
    /// A dispute was lost.
    Chargeback,
}

/// Money that was lost again, in minor units of the conversion's currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) refunded: i64,
    pub(crate) disputed: i64,
    pub(crate) lost: i64,
}

/// The facts about a conversion that destinations may receive. `conversion` fills it in; nothing
/// else leaves.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) news: News,
    /// The transaction ID of this message; a refund has its own.
    pub(crate) transaction_id: String,
    pub(crate) conversion: Conversion,
    /// The amount paid.
    pub(crate) amount: Option<Money>,
    /// The value to send to the destination.
    pub(crate) value: Option<Money>,
    /// True if the reference that Stripe returned is an AnyTrack click ID that was captured with a
    /// visit.
    pub(crate) reference_was_captured: bool,
    /// Our own click ID, if one is known.
    pub(crate) click_id: Option<String>,
    /// The AnyTrack click ID captured with the matched visit.
    pub(crate) anytrack_click_id: Option<String>,
    /// The AnyTrack click ID of a visit that we registered with AnyTrack.
    pub(crate) registered_click_id: Option<String>,
    /// True if the visitor's browser sent Global Privacy Control (GPC).
    pub(crate) wants_privacy: bool,
    /// True if the visitor gave consent: the page passed it to the tag before the visit was recorded.
    pub(crate) has_agreed: bool,
    /// When the payment happened, in seconds since 1970, UTC.
    pub(crate) occurred_at_s: i64,
    /// The facts that Stripe stated about the payment.
    pub(crate) payment: Value,
    /// The visit it is matched to.
    pub(crate) visit: Value,
    /// The site it belongs to.
    pub(crate) site: Value,
    /// The event that states the payment, as Stripe sent it; null if there is none, or no field of
    /// the mapping uses it.
    pub(crate) stripe: Value,
    /// IDs of destinations that the conversion came from, `dst_…`.
    pub(crate) never_to: Vec<String>,
    /// How much of the amount was refunded, is disputed and was lost, in minor units.
    pub(crate) taken: Taken,
    /// The transaction ID of the payment itself, also in the message of a refund.
    pub(crate) original_transaction_id: String,
}

impl Outgoing {
    /// The value of this message. It is 0 for refunds and disputes, because a destination may count
    /// every positive value as revenue; their amount is a separate field.
    pub(crate) fn sent_value(&self) -> Option<Money> {
        match self.news {
            News::Paid => self.value,
            News::Refund(_) | News::Chargeback => {
                self.value.map(|value| Money { minor: 0, ..value })
            }
        }
    }

    /// The refunded amount, in the message about a refund.
    pub(crate) fn refund_amount(&self) -> Option<Money> {
        match self.news {
            News::Refund(growth) => Some(growth),
            News::Paid | News::Chargeback => None,
        }
    }

    /// The payment's status in this message.
    pub(crate) fn status(&self) -> ConversionStatus {
        match self.news {
            News::Paid => self.conversion.status,
            News::Refund(_) => ConversionStatus::Refunded,
            News::Chargeback => ConversionStatus::Disputed,
        }
    }

    /// The amount without refunds and lost disputes.
    fn net(&self) -> Option<Money> {
        let taken = self.taken.refunded.saturating_add(self.taken.lost);
        self.amount.map(|amount| Money { minor: amount.minor.saturating_sub(taken), ..amount })
    }

    /// The destination's value, reduced by the same share as the net amount.
    fn remaining_value(&self) -> Option<Money> {
        let (value, amount, net) = (self.value?, self.amount?, self.net()?);
        Some(Money { minor: share(value.minor, net.minor.max(0), amount.minor), ..value })
    }

    pub(crate) fn is_matched(&self) -> bool {
        self.conversion.joined.state == MatchState::Matched
    }

    /// A copy without personal data: no email, name, phone or address, and no cookie of an ad
    /// network. Click IDs stay, because they identify a click on an ad.
    pub(crate) fn without_personal(&self) -> Self {
        let mut less = self.clone();
        less.conversion.email = None;
        less.stripe = Value::Null; // It contains the buyer's data in many places.
        if let Some(visit) = less.visit.as_object_mut() {
            let cookies = visit.remove("ad_cookies");
            for name in cookies.as_ref().and_then(Value::as_object).into_iter().flat_map(Map::keys)
            {
                visit.remove(name);
            }
        }
        remove_personal(&mut less.visit);
        remove_personal(&mut less.payment);
        for (place, inner) in
            [(&mut less.payment, &["metadata", "params"][..]), (&mut less.visit, &["params"][..])]
        {
            for name in inner {
                if let Some(object) = place.get_mut(*name) {
                    remove_personal(object);
                }
            }
        }
        less
    }

    /// The names that mappings may use, with their values.
    pub(crate) fn names(
        &self,
        event_name: &str,
        anytrack_click_id: Option<&str>,
        click_id: Option<&str>,
    ) -> Value {
        let conversion = &self.conversion;
        let mut names = json!({
            "id": conversion.id,
            "kind": conversion.kind,
            "status": self.status(),
            "event_name": event_name,
            "transaction_id": self.transaction_id,
            "value": self.sent_value().map(Money::decimal),
            "amount": conversion.amount,
            "amount_minor": self.amount.map(|amount| amount.minor),
            "refund_amount": self.refund_amount().map(Money::decimal),
            "currency": conversion.currency,
            "refunded": conversion.refunded,
            "refunded_minor": self.taken.refunded,
            "disputed_minor": self.taken.disputed,
            "lost_minor": self.taken.lost,
            "net_minor": self.net().map(|net| net.minor),
            "net": self.net().map(Money::decimal),
            "remaining_value": self.remaining_value().map(Money::decimal),
            "original_transaction_id": self.original_transaction_id,
            "occurred_at": conversion.occurred_at,
            "occurred_at_s": self.occurred_at_s,
            "livemode": conversion.livemode,
            "client_reference_id": conversion.client_reference_id,
            "email": conversion.email,
            "click_id": click_id,
            "ref_id": self.click_id,
            "anytrack_click_id": anytrack_click_id,
            "match_state": conversion.joined.state,
            "match_by": conversion.joined.by,
            "match_reason": conversion.joined.reason,
        });
        names = json!({
            "conversion": names,
            "payment": self.payment,
            "visit": self.visit,
            "touches": conversion.touches,
            "stripe": self.stripe,
            "site": self.site,
        });
        strip_nulls(&mut names);
        names
    }
}

/// Names of personal data, in the spelling of [`bare`].
const PERSONAL: [&str; 26] = [
    "email", "mail", "emailaddress", "name", "fullname", "firstname", "lastname", "givenname",
    "familyname", "surname", "phone", "phonenumber", "telephone", "tel", "mobile", "address",
    "street", "city", "zip", "zipcode", "postalcode", "postcode", "birthday", "ip", "ipaddress",
    "useragent",
];
/// Prefixes of cookie names by which ad networks recognize a browser, in the same spelling.
const BROWSER_IDS: [&str; 19] = [
    "fbp", "fbc", "gclau", "gclaw", "gcldc", "gclgb", "gclgs", "gclha", "ga", "ttp", "ttsid",
    "uet", "scid", "rdtuuid", "atcid", "lifatid", "pin", "twid", "clientid",
];

/// Removes entries with personal data or browser IDs from an object. Sellers and networks use many
/// names, so all common ones are removed.
fn remove_personal(value: &mut Value) {
    if let Some(object) = value.as_object_mut() {
        object.retain(|name, _| {
            let name = bare(name);
            // `ga` and `ga_1A2B`, but not `gad_source` and `game`.
            let is_cookie = BROWSER_IDS.iter().any(|id| match *id {
                "ga" | "pin" => name == *id || name.strip_prefix(id).is_some_and(is_mixed),
                id => name.starts_with(id),
            });
            !is_cookie && !PERSONAL.contains(&name.as_str())
        });
    }
}

/// A name in lower case without punctuation.
fn bare(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

fn is_mixed(rest: &str) -> bool {
    rest.bytes().any(|byte| byte.is_ascii_digit())
}

/// Removes nulls. A null would become the text `none` in an expression, but a missing name is
/// undefined, and so is everything below it.
fn strip_nulls(value: &mut Value) {
    match value {
        Value::Object(object) => {
            let kept = std::mem::take(object).into_iter().filter(|(_, value)| !value.is_null());
            *object = kept.collect::<Map<_, _>>();
            object.values_mut().for_each(strip_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::anytrack::tests::purchase;

    #[test]
    fn without_personal_data_no_cookie_of_an_ad_network_is_left() {
        let mut full = purchase();
        let cookies = json!({
            "fbp": "fb.1.2", "fbc": "fb.1.IwAR", "ttp": "2fG", "gcl_au": "1.1", "gcl_aw": "GCL.1.x", "ga": "GA1.1.2",
            "ga_1A2B3C": "GS1.1", "uetvid": "a1", "uetsid": "b1", "scid": "c1", "rdt_uuid": "d1", "atcid": "e1",
            "li_fat_id": "f1", "of_a_new_network": "g1",
        });
        full.visit = json!({
            "click_id": "ck_1", "campaign": "spring", "gclid": "Cj0K", "gad_source": "1", "ad_cookies": cookies,
            "params": {"utm_id": "7", "_fbp": "fb.1.2", "email": "a@b.example"},
        });
        for (name, value) in cookies.as_object().unwrap() {
            full.visit[name] = value.clone();
        }
        full.payment = json!({
            "session_id": "cs_1", "email": "a@b.example", "name": "Ada", "phone": "1", "country": "AT", "city": "Vienna",
            "postal_code": "1010", "metadata": {"plan": "pro", "First Name": "Ada", "_ga": "GA1.1.2", "game": "chess"},
            "params": {"sub1": "A", "user_agent": "Mozilla", "fbp": "fb.1.2"},
        });
        let less = full.without_personal();
        let visit = json!({
            "click_id": "ck_1", "campaign": "spring", "gclid": "Cj0K", "gad_source": "1", "params": {"utm_id": "7"},
        });
        assert_eq!(less.visit, visit);
        let payment = json!({
            "session_id": "cs_1", "country": "AT", "metadata": {"plan": "pro", "game": "chess"}, "params": {"sub1": "A"},
        });
        assert_eq!(less.payment, payment);
        assert_eq!((less.conversion.email, less.stripe), (None, Value::Null));
    }
}
