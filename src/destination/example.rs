//! Sends a test message: with a value for every name, marked as a test, once. AnyTrack treats it as
//! a real event, so for AnyTrack it has its own event name and no value, and never counts as a
//! sale.
//! Takes a destination; returns what was sent and the response.
//! Guarantees that nothing is stored, that the transaction ID begins with `test_`, and that the
//! person is fictional.

use super::facts::{Conversion, Match, News, Outgoing, Taken, Touch};
use super::send::Answer;
use super::{Message, Parcel, Sender, Unsent, compose, hide_secrets, judge, kind, presets};
use crate::clock::Timestamp;
use crate::domain::{AttemptOutcome, ConversionKind, ConversionStatus, MatchRule, MatchState};
use crate::ids;
use crate::money::{Currency, Money};
use crate::settings::{Destination, DestinationKind, Events};

/// The result of a test.
pub(crate) struct Tried {
    pub(crate) message: Message,
    pub(crate) outcome: AttemptOutcome,
    /// The error, unless the message was accepted.
    pub(crate) error: Option<String>,
    /// Status and body of the response, without our secrets; `None` without a response.
    pub(crate) answer: Option<(u16, String)>,
}

/// Sends a test message with the current mapping. The destination's conditions are ignored, because
/// a user asked for the test.
pub(crate) async fn try_out(
    sender: &Sender,
    now: Timestamp,
    destination: &Destination,
    site: &str,
) -> Result<Tried, Unsent> {
    let id = ids::new_record_id("test_", now);
    let mut wanting = Destination { accepts_test: true, ..destination.clone() };
    wanting.options.events = Events { sends_custom: true, ..Events::default() };
    wanting.options.limits.minimum_value = None;
    let message = compose(&wanting, &outgoing(destination.kind, &id, now, site)).await?;
    let (content_type, body) = (message.content_type, message.body.as_str());
    let answer = sender.send(destination, Parcel { id: &id, at: now, content_type, body }).await;
    let (outcome, error) = judge(destination, &answer);
    let answer = match answer {
        Answer::Http { status, body, .. } => Some((status, hide_secrets(destination, &body))),
        Answer::Nothing(_) | Answer::Blocked(_) => None,
    };
    Ok(Tried { message, outcome, error, answer })
}

fn outgoing(of: DestinationKind, id: &str, now: Timestamp, site: &str) -> Outgoing {
    let mut names = presets::sample();
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let click_id = text(&names["conversion"]["click_id"]);
    names["payment"]["name"] = "Clickstamp test".into();
    names["payment"]["email"] = EMAIL.into();
    let event = kind(of).test_event;
    let one = Money { minor: 100, currency: Currency::parse("usd").expect("it is one") };
    let one = Some(one).filter(|_| event.is_none());
    let touch = &names["touches"][0];
    let first = Touch {
        click_id: click_id.clone().unwrap_or_default(),
        at: now.to_rfc3339(),
        source: text(&touch["source"]),
        medium: text(&touch["medium"]),
        campaign: text(&touch["campaign"]),
        landing_path: text(&touch["landing_path"]),
    };
    let theirs = text(&names["conversion"]["anytrack_click_id"]).filter(|_| event.is_none());
    let nothing = one.map(|one| Money { minor: 0, ..one }.decimal());
    Outgoing {
        news: News::Paid,
        transaction_id: id.to_owned(),
        conversion: Conversion {
            id: "cnv_test".to_owned(),
            site: site.to_owned(),
            source: "test".to_owned(),
            kind: ConversionKind::parse(event.unwrap_or("purchase")),
            status: ConversionStatus::Paid,
            livemode: false,
            occurred_at: now.to_rfc3339(),
            amount: one.map(Money::decimal),
            currency: one.map(|one| one.currency.code().to_owned()),
            refunded: nothing.clone(),
            disputed: nothing.clone(),
            lost: nothing,
            paid_at: Some(now.to_rfc3339()),
            transaction_id: id.to_owned(),
            client_reference_id: click_id.clone(),
            email: Some(EMAIL.to_owned()),
            joined: Match {
                state: MatchState::Matched,
                by: Some(MatchRule::ClickId),
                reason: None,
                click_id: click_id.clone(),
            },
            touches: vec![first],
        },
        amount: one,
        value: one,
        reference_was_captured: false,
        click_id,
        anytrack_click_id: theirs,
        registered_click_id: None,
        wants_privacy: false,
        has_agreed: true,
        occurred_at_s: now.as_seconds(),
        payment: names["payment"].take(),
        visit: names["visit"].take(),
        site: names["site"].take(),
        stripe: names["stripe"].take(),
        never_to: Vec::new(),
        taken: Taken::default(),
        original_transaction_id: id.to_owned(),
    }
}

/// Nobody's address: the domain is reserved for examples.
const EMAIL: &str = "clickstamp-test@example.com";
