//! What the outside may know of a conversion.
//! In: what `conversion` fills in. Out: the one shape a conversion has in the API and in webhooks, and the names that mapping rows may use.
//! Promise: nothing else of ours leaves; amounts are exact decimal text; what is not known is left out of the names, never null.

use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::domain::{ConversionKind, ConversionStatus, MatchRule, MatchState, UnmatchedReason};
use crate::money::{Money, share};

/// One conversion: the `data` of a webhook, and the API's conversion without its deliveries.
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
    /// What has become of the payment.
    pub(crate) status: ConversionStatus,
    /// Live or test.
    pub(crate) livemode: bool,
    /// When it happened.
    pub(crate) occurred_at: String,
    /// Exact decimal text; null where no event told.
    pub(crate) amount: Option<String>,
    /// Three letters; null where no event told.
    pub(crate) currency: Option<String>,
    /// What was given back.
    pub(crate) refunded: Option<String>,
    /// What open disputes withhold.
    pub(crate) disputed: Option<String>,
    /// What lost disputes took.
    pub(crate) lost: Option<String>,
    /// When it was paid; null where it is not, and then it counts as no revenue.
    pub(crate) paid_at: Option<String>,
    /// What destinations know it by.
    pub(crate) transaction_id: String,
    /// What Stripe brought back.
    pub(crate) client_reference_id: Option<String>,
    /// The buyer's address.
    pub(crate) email: Option<String>,
    /// The answer of the join.
    #[serde(rename = "match")]
    pub(crate) joined: Match,
    /// The visitor's way, first touch first.
    pub(crate) touches: Vec<Touch>,
}

/// The answer of the join.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Match {
    /// Whether there is a visit.
    pub(crate) state: MatchState,
    /// The rule that matched.
    pub(crate) by: Option<MatchRule>,
    /// Why unmatched.
    pub(crate) reason: Option<UnmatchedReason>,
    /// Of the visit it is matched to.
    pub(crate) click_id: Option<String>,
}

/// One step of a visitor's way.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Touch {
    /// `ck_…`.
    pub(crate) click_id: String,
    /// When.
    pub(crate) at: String,
    /// google, newsletter, …
    pub(crate) source: Option<String>,
    /// cpc, email, …
    pub(crate) medium: Option<String>,
    /// The campaign's name.
    pub(crate) campaign: Option<String>,
    /// The path of the page.
    pub(crate) landing_path: Option<String>,
}

/// What there is to tell of a conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// It was paid.
    Paid,
    /// So much more was given back.
    Refund(Money),
    /// A dispute took it.
    Chargeback,
}

/// Money that went back, in minor units of the conversion's currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) refunded: i64,
    pub(crate) disputed: i64,
    pub(crate) lost: i64,
}

/// A conversion as destinations may know it. `conversion` fills it in; nothing else of ours leaves.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) news: News,
    /// Of this message; a refund has one of its own.
    pub(crate) transaction_id: String,
    pub(crate) conversion: Conversion,
    /// What was paid.
    pub(crate) amount: Option<Money>,
    /// What the destination is told it was worth.
    pub(crate) value: Option<Money>,
    /// True when what came back from Stripe equals an AnyTrack click ID captured with a visit.
    pub(crate) reference_was_captured: bool,
    /// Our genuine click ID, if one is known.
    pub(crate) click_id: Option<String>,
    /// The AnyTrack click ID captured with the matched visit.
    pub(crate) anytrack_click_id: Option<String>,
    /// AnyTrack's click ID of a visit that we registered there ourselves.
    pub(crate) registered_click_id: Option<String>,
    /// The visitor's browser asked for privacy (GPC).
    pub(crate) wants_privacy: bool,
    /// The visitor is known to have agreed: the page told the tag so when the visit was recorded.
    pub(crate) has_agreed: bool,
    /// When it happened, seconds since 1970, UTC.
    pub(crate) occurred_at_s: i64,
    /// What Stripe said of the payment.
    pub(crate) payment: Value,
    /// The visit it is matched to.
    pub(crate) visit: Value,
    /// The site it belongs to.
    pub(crate) site: Value,
    /// The event that states it, as Stripe sent it; null where none does, or no row asks for it.
    pub(crate) stripe: Value,
    /// Destinations that it came from: `dst_…`.
    pub(crate) never_to: Vec<String>,
    /// What of the amount was refunded, is disputed and was lost, in minor units.
    pub(crate) taken: Taken,
    /// The transaction ID of the payment itself, also in the message of a refund.
    pub(crate) original_transaction_id: String,
}

impl Outgoing {
    /// What stands as its value: a destination may count every positive value as revenue, so what was given back stands apart.
    pub(crate) fn told_value(&self) -> Option<Money> {
        match self.news {
            News::Paid => self.value,
            News::Refund(_) | News::Chargeback => {
                self.value.map(|value| Money { minor: 0, ..value })
            }
        }
    }

    /// What was given back, in the message that tells of it.
    pub(crate) fn refund_amount(&self) -> Option<Money> {
        match self.news {
            News::Refund(growth) => Some(growth),
            News::Paid | News::Chargeback => None,
        }
    }

    /// Where it stands, in the words of this message.
    pub(crate) fn status(&self) -> ConversionStatus {
        match self.news {
            News::Paid => self.conversion.status,
            News::Refund(_) => ConversionStatus::Refunded,
            News::Chargeback => ConversionStatus::Disputed,
        }
    }

    /// What is left of the amount after refunds and lost disputes.
    fn net(&self) -> Option<Money> {
        let taken = self.taken.refunded.saturating_add(self.taken.lost);
        self.amount.map(|amount| Money { minor: amount.minor.saturating_sub(taken), ..amount })
    }

    /// The same share of the value that the destination gets.
    fn remaining_value(&self) -> Option<Money> {
        let (value, amount, net) = (self.value?, self.amount?, self.net()?);
        Some(Money { minor: share(value.minor, net.minor.max(0), amount.minor), ..value })
    }

    pub(crate) fn is_matched(&self) -> bool {
        self.conversion.joined.state == MatchState::Matched
    }

    /// The same without what names the person or their browser: e-mail, name, phone, place, and every cookie of an ad network. Click IDs stay: they
    /// name a click on an ad.
    pub(crate) fn without_personal(&self) -> Self {
        let mut less = self.clone();
        less.conversion.email = None;
        less.stripe = Value::Null; // The buyer's data is everywhere in it.
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

    /// The names that mapping rows may use.
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
            "value": self.told_value().map(Money::decimal),
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

/// What names a person, in the spelling of [`bare`].
const PERSONAL: [&str; 26] = [
    "email",
    "mail",
    "emailaddress",
    "name",
    "fullname",
    "firstname",
    "lastname",
    "givenname",
    "familyname",
    "surname",
    "phone",
    "phonenumber",
    "telephone",
    "tel",
    "mobile",
    "address",
    "street",
    "city",
    "zip",
    "zipcode",
    "postalcode",
    "postcode",
    "birthday",
    "ip",
    "ipaddress",
    "useragent",
];
/// How the names of cookies begin by which ad networks know a browser, in the same spelling.
const BROWSER_IDS: [&str; 19] = [
    "fbp", "fbc", "gclau", "gclaw", "gcldc", "gclgb", "gclgs", "gclha", "ga", "ttp", "ttsid",
    "uet", "scid", "rdtuuid", "atcid", "lifatid", "pin", "twid", "clientid",
];

/// Removes an object's entries that name a person or a browser. What owners and networks call them is not known, so all usual names count.
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

/// A name without case and signs.
fn bare(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

fn is_mixed(rest: &str) -> bool {
    rest.bytes().any(|byte| byte.is_ascii_digit())
}

/// A null would read as the text `none` in an expression; a name that is missing is undefined, and so is all that follows it.
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
