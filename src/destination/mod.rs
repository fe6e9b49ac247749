//! Destinations: what is sent, in which form, and what a response means.
//! Takes a conversion reduced to what destinations may receive; returns a message, or the reason
//! why there is none; later, an outcome for each response.
//! Guarantees that a message depends on its input only, and that nothing is sent to a private
//! address unless the operator allows it.

mod anytrack;
mod example;
pub(crate) mod facts;
mod guard;
mod kind;
mod limits;
mod mail;
pub(crate) mod mapping;
pub(crate) mod presets;
mod secrets;
mod send;
mod tls;
mod webhook;

pub(crate) use example::{Tried, try_out};
pub(crate) use facts::{News, Outgoing};
pub use guard::{Lookup, check_url};
pub(crate) use kind::{kind, of_preset};
pub(crate) use mail::{Letter, MailServer, Security, check_recipients};
pub(crate) use secrets::Secrets;
pub use send::Network;
pub(crate) use send::{Answer, Parcel, Sender};
pub(crate) use webhook::new_secret;

use std::time::Duration;

use serde_json::Value;

use crate::domain::{AttemptOutcome, ConversionKind, SkipReason};
use crate::money::Money;
use crate::settings::{Destination, DestinationOptions, Discretion, Encoding};

/// A complete message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) event_name: String,
    pub(crate) transaction_id: String,
    pub(crate) body: String,
    pub(crate) content_type: &'static str,
}

/// A message as built by the transaction that queues it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Draft {
    pub(crate) event_name: String,
    pub(crate) transaction_id: String,
    pub(crate) content: Content,
}

/// The content of a draft.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// The final bytes of the standard message.
    Made(Made),
    /// The facts that the destination's mapping may use, as JSON. Expressions are too slow for a
    /// transaction that others wait for, so [`make`] evaluates them later.
    Facts(String),
}

/// The bytes of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) body: String,
    pub(crate) content_type: &'static str,
}

/// Why there is no message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unsent {
    /// The settings of the destination exclude it.
    Skipped(SkipReason),
    /// The mapping fails for this conversion: the field and the error.
    Broken(String),
}

impl From<SkipReason> for Unsent {
    fn from(skip: SkipReason) -> Self {
        Self::Skipped(skip)
    }
}

/// Content type of a message that is sent in the URL's query.
pub(crate) const IN_THE_URL: &str = "query";

/// Maximum time to wait for a mapping. The cost of expressions is limited (see `limits`), so this
/// matters only on a very busy machine.
const MAPPING_TIMEOUT: Duration = Duration::from_secs(5);

/// Returns what a destination should receive, or why it should receive nothing. Evaluates no
/// expression, so it is fast enough for a transaction.
pub(crate) fn draft(destination: &Destination, outgoing: &Outgoing) -> Result<Draft, SkipReason> {
    let options = &destination.options;
    admit(destination, outgoing)?;
    let event_name = event_name(outgoing);
    let is_discreet = |asks: bool, choice| asks && choice == Discretion::WithoutPersonal;
    let less = (is_discreet(outgoing.wants_privacy, options.limits.gpc)
        || is_discreet(!outgoing.has_agreed, options.limits.consent))
    .then(|| outgoing.without_personal());
    let outgoing = less.as_ref().unwrap_or(outgoing);
    let kind = kind(destination.kind);
    (kind.admit)(options, outgoing)?;
    let content = if options.message.rows.is_some() {
        Content::Facts(names(options, outgoing).to_string())
    } else {
        let body = (kind.standard)(options, outgoing, event_name);
        Content::Made(Made { body, content_type: content_type(Encoding::Json) })
    };
    Ok(Draft {
        event_name: event_name.to_owned(),
        transaction_id: outgoing.transaction_id.clone(),
        content,
    })
}

fn content_type(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Json => "application/json",
        Encoding::Form => "application/x-www-form-urlencoded",
        Encoding::Query => IN_THE_URL,
    }
}

/// Applies a mapping to facts. Call it through [`apart`], because it evaluates expressions.
fn map(options: &DestinationOptions, facts: &str) -> Result<Made, String> {
    let Some(rows) = &options.message.rows else {
        return Err("its mapping was removed before the message was built".to_owned());
    };
    let facts = serde_json::from_str(facts).map_err(|error| format!("its facts: {error}"))?;
    let body = mapping::build(rows, &facts, options.message.encoding).map_err(|fault| {
        let field = rows.get(fault.row).map_or("", |row| row.field.as_str());
        format!("the mapping of “{field}” fails: {}", fault.message)
    })?;
    if body.is_empty() {
        return Err("no field of the mapping has a value for this conversion".to_owned());
    }
    Ok(Made { body, content_type: content_type(options.message.encoding) })
}

/// Builds a message from facts with the destination's mapping, or returns the error.
pub(crate) async fn make(destination: &Destination, facts: String) -> Result<Made, String> {
    let options = destination.options.clone();
    apart(move || map(&options, &facts)).await.flatten()
}

/// Evaluates expressions on a blocking thread, and waits for the result up to [`MAPPING_TIMEOUT`].
pub(crate) async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    match tokio::time::timeout(MAPPING_TIMEOUT, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(_)) => {
            Err("Clickstamp panicked while it evaluated the mapping; see the log".to_owned())
        }
        Err(_) => Err("its mapping takes too long".to_owned()),
    }
}

/// Builds the whole message for a destination at once, or returns why there is none. Too slow for a
/// transaction.
pub(crate) async fn compose(
    destination: &Destination,
    outgoing: &Outgoing,
) -> Result<Message, Unsent> {
    let Draft { event_name, transaction_id, content } = draft(destination, outgoing)?;
    let Made { body, content_type } = match content {
        Content::Made(made) => made,
        Content::Facts(facts) => make(destination, facts).await.map_err(Unsent::Broken)?,
    };
    Ok(Message { event_name, transaction_id, body, content_type })
}

/// The names that a destination's mapping may use for a conversion.
pub(crate) fn names(options: &DestinationOptions, outgoing: &Outgoing) -> Value {
    let anytracks = anytrack::anytracks(options, outgoing);
    let ours = outgoing.click_id.as_deref().filter(|_| options.anytrack.falls_back_to_our_click_id);
    outgoing.names(event_name(outgoing), anytracks, ours)
}

/// The destination's event name.
fn event_name(outgoing: &Outgoing) -> &str {
    match outgoing.news {
        News::Refund(_) => return "Refund",
        News::Chargeback => return "Chargeback",
        News::Paid => {}
    }
    match &outgoing.conversion.kind {
        ConversionKind::Purchase | ConversionKind::Renewal => "Purchase",
        ConversionKind::Trial | ConversionKind::Lead => "Lead",
        // A custom event must not be mistaken for a refund.
        ConversionKind::Custom(name) if name.eq_ignore_ascii_case("refund") => "CustomRefund",
        ConversionKind::Custom(name) if name.eq_ignore_ascii_case("chargeback") => {
            "CustomChargeback"
        }
        ConversionKind::Custom(name) => name,
    }
}

/// Checks the conditions in the destination's settings.
fn admit(destination: &Destination, outgoing: &Outgoing) -> Result<(), SkipReason> {
    let options = &destination.options;
    let conversion = &outgoing.conversion;
    let is_wanted = match (outgoing.news, &conversion.kind) {
        (News::Refund(_), _) => options.events.sends_refunds,
        (News::Chargeback, _) => options.events.sends_disputes,
        (News::Paid, ConversionKind::Purchase) => options.events.sends_purchases,
        (News::Paid, ConversionKind::Renewal) => options.events.sends_renewals,
        (News::Paid, ConversionKind::Trial) => options.events.sends_trials,
        (News::Paid, ConversionKind::Lead) => options.events.sends_leads,
        (News::Paid, ConversionKind::Custom(_)) => options.events.sends_custom,
    };
    let is_paid = outgoing.news == News::Paid;
    let is_purchase = event_name(outgoing) == "Purchase";
    let minimum = options.limits.minimum_value.as_deref();
    let is_less = |value: Money| {
        let minimum = minimum.and_then(|text| Money::parse(text, value.currency));
        minimum.is_some_and(|minimum| value.minor < minimum.minor)
    };
    if !conversion.livemode && !destination.accepts_test {
        Err(SkipReason::TestMode)
    } else if outgoing.never_to.contains(&destination.id) {
        Err(SkipReason::Echo)
    } else if !options.events.sites.is_empty() && !options.events.sites.contains(&conversion.site) {
        Err(SkipReason::SiteOff)
    } else if !is_wanted {
        Err(SkipReason::KindOff)
    } else if is_purchase && outgoing.value.is_some_and(|value| value.minor == 0) {
        Err(SkipReason::ZeroValue)
    } else if is_paid && outgoing.value.is_some_and(is_less) {
        Err(SkipReason::BelowMinimum)
    } else if outgoing.wants_privacy && options.limits.gpc == Discretion::Skip {
        Err(SkipReason::Gpc)
    } else if !outgoing.has_agreed && options.limits.consent == Discretion::Skip {
        Err(SkipReason::NoConsent)
    } else if !outgoing.is_matched() && !options.limits.sends_unmatched {
        Err(SkipReason::Unmatched)
    } else {
        Ok(())
    }
}

/// How the error of a redirect begins; the URL behind it is not for everybody.
pub(crate) const MOVED: &str = "it moved to ";

/// Returns what a response means, and an error text for people unless it means acceptance.
pub(crate) fn judge(
    destination: &Destination,
    answer: &Answer,
) -> (AttemptOutcome, Option<String>) {
    let options = &destination.options;
    let (outcome, error) =
        judge_by(&options.sending.refuse_if_body_contains, &options.sending.retry_also, answer);
    (outcome, error.map(|error| hide_secrets(destination, &error)))
}

/// The same for given refusal texts and additional statuses to retry.
pub(crate) fn judge_by(
    refusals: &[String],
    retry_also: &[u16],
    answer: &Answer,
) -> (AttemptOutcome, Option<String>) {
    match answer {
        Answer::Blocked(why) => (AttemptOutcome::Blocked, Some(why.clone())),
        Answer::Nothing(why) => (AttemptOutcome::Retry, Some(why.clone())),
        Answer::Http { status, location, body, .. } => {
            let said = |text: &str| body.to_lowercase().contains(&text.to_lowercase());
            let refusal = refusals.iter().find(|text| said(text));
            match (status, refusal) {
                (200..=299, Some(text)) => (
                    AttemptOutcome::Refused,
                    Some(format!("it answered {status}, but said: {text}")),
                ),
                (200..=299, None) => (AttemptOutcome::Accepted, None),
                (408 | 425 | 429 | 500..=599, _) => {
                    (AttemptOutcome::Retry, Some(format!("it answered {status}")))
                }
                (status, _) if retry_also.contains(status) => {
                    (AttemptOutcome::Retry, Some(format!("it answered {status}")))
                }
                (300..=399, _) => {
                    let to = location.as_deref().map(secrets::mask_location);
                    let to = to.unwrap_or_else(|| "another address".to_owned());
                    (AttemptOutcome::Refused, Some(format!("{MOVED}{to}: enter the new URL")))
                }
                _ => (AttemptOutcome::Refused, Some(format!("it answered {status}"))),
            }
        }
    }
}

/// Removes the destination's credentials from a text: some destinations repeat the request in their
/// response.
pub(crate) fn hide_secrets(destination: &Destination, answer: &str) -> String {
    Secrets::of_destination(destination).hide(answer)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config::Secret;
    use crate::settings::{DestinationKind, DestinationOptions};

    pub(crate) fn destination() -> Destination {
        Destination {
            id: "dst_1".to_owned(),
            key: "anytrack".to_owned(),
            site_id: "site_1".to_owned(),
            kind: DestinationKind::AnyTrack,
            name: "AnyTrack".to_owned(),
            url: Secret::new("https://t1.anytrack.io/x/collect/y"),
            enabled: true,
            accepts_test: false,
            options: DestinationOptions::default(),
            revision: 1,
            from_environment: false,
            secrets: Vec::new(),
            created_at: crate::clock::Timestamp::from_ms(0),
        }
    }

    #[test]
    fn every_response_has_its_outcome() {
        let http = |status, body: &str| Answer::Http {
            status,
            body: body.to_owned(),
            location: None,
            retry_after: None,
        };
        let rows = [
            ("200", http(200, "ok"), AttemptOutcome::Accepted),
            ("204", http(204, ""), AttemptOutcome::Accepted),
            (
                "200 that refuses",
                http(200, "{\"error\":\"missing CLICK_ID, ref_id and email\"}"),
                AttemptOutcome::Refused,
            ),
            ("200 without a match", http(200, "No match found"), AttemptOutcome::Refused),
            (
                "200 of a dead property",
                http(200, "console.log('property not exists anymore')"),
                AttemptOutcome::Refused,
            ),
            ("302", http(302, ""), AttemptOutcome::Refused),
            ("400", http(400, ""), AttemptOutcome::Refused),
            ("401", http(401, ""), AttemptOutcome::Refused),
            ("404", http(404, ""), AttemptOutcome::Refused),
            ("408", http(408, ""), AttemptOutcome::Retry),
            ("425", http(425, ""), AttemptOutcome::Retry),
            ("429", http(429, ""), AttemptOutcome::Retry),
            ("500", http(500, ""), AttemptOutcome::Retry),
            ("503 with a refusing text", http(503, "No match found"), AttemptOutcome::Retry),
            ("599", http(599, ""), AttemptOutcome::Retry),
            ("101", http(101, ""), AttemptOutcome::Refused),
            ("nothing", Answer::Nothing("no answer within 20 s".to_owned()), AttemptOutcome::Retry),
            ("blocked", Answer::Blocked("private".to_owned()), AttemptOutcome::Blocked),
        ];
        for (name, answer, expected) in rows {
            let (outcome, error) = judge(&destination(), &answer);
            assert_eq!(outcome, expected, "{name}");
            assert_eq!(error.is_none(), expected == AttemptOutcome::Accepted, "{name}");
        }
    }

    #[test]
    fn test_payments_are_not_sent_unless_wanted() {
        let mut destination = destination();
        let mut test = anytrack::tests::purchase();
        test.conversion.livemode = false;
        assert_eq!(draft(&destination, &test), Err(SkipReason::TestMode));
        destination.accepts_test = true;
        assert!(draft(&destination, &test).is_ok());
    }
}
