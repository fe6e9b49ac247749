//! Sends the messages of alerts. Takes messages that are due; attempts to send them and records the outcome: sent, due
//! later or failed. A claim is committed before the send and is only a lease; no transaction spans a send. A slow
//! recipient does not delay others, and none gets more messages per hour than allowed. A failed alert raises no alert.

use std::time::Duration;

use anyhow::Result;
use futures_util::future::join_all;

use super::choices::{Alerts, Choices, Target, TargetKind};
use super::table::{self, Claim};
use super::words;
use crate::clock::Timestamp;
use crate::destination::{self, Answer, Letter, Parcel, Secrets, Sender};
use crate::domain::AttemptOutcome;
use crate::failpoint;

/// Longer than any attempt can take.
const LEASE: Duration = Duration::from_secs(60);
/// Pauses between attempts, in seconds: about a day in total.
const PAUSES: [u64; 9] = [10, 60, 300, 900, 3600, 3 * 3600, 6 * 3600, 6 * 3600, 6 * 3600];

/// Every pause follows an attempt, and one more attempt follows the last pause.
const MAX_TRIES: usize = PAUSES.len() + 1;

/// Sends the messages that are due. Returns the number of attempts.
pub(super) async fn send_due(
    alerts: &Alerts,
    choices: &Choices,
    targets: &[Target],
) -> Result<usize> {
    let each = targets.iter().map(|target| send_to(alerts, choices, target));
    let mut tries = 0;
    for done in join_all(each).await {
        tries += done?;
    }
    Ok(tries)
}

async fn send_to(alerts: &Alerts, choices: &Choices, target: &Target) -> Result<usize> {
    let (store, per_hour, mut tries) = (&alerts.store, choices.rules.per_hour, 0);
    loop {
        let now = alerts.clock.now();
        let claim = table::claim(store, now, LEASE, &target.id, per_hour).await?;
        let Some(claim) = claim else { return Ok(tries) };
        failpoint::pass("alert_claimed").await;
        // Every process that attempted it died meanwhile.
        if usize::try_from(claim.n).unwrap_or(usize::MAX) > MAX_TRIES {
            settle(alerts, target, &claim, AttemptOutcome::Refused, "no attempt ever finished")
                .await?;
            continue;
        }
        tries += 1;
        let parts = Parts { id: &claim.id, headline: &claim.headline, body: &claim.body };
        let (outcome, said) =
            send(&alerts.sender, choices, target, now, claim.created_at, &parts).await;
        failpoint::pass("alert_answered").await;
        settle(alerts, target, &claim, outcome, &said).await?;
    }
}

async fn settle(
    alerts: &Alerts,
    target: &Target,
    claim: &Claim,
    outcome: AttemptOutcome,
    said: &str,
) -> Result<()> {
    let now = alerts.clock.now();
    let tried = usize::try_from(claim.n - 1).unwrap_or(usize::MAX);
    let (state, due) = match (outcome, PAUSES.get(tried)) {
        (AttemptOutcome::Accepted, _) => ("sent", now),
        (AttemptOutcome::Retry, Some(pause)) => ("pending", now.plus(Duration::from_secs(*pause))),
        (AttemptOutcome::Retry, None) | (AttemptOutcome::Refused | AttemptOutcome::Blocked, _) => {
            ("given_up", now)
        }
    };
    if state != "sent" {
        tracing::warn!(
            target = target.name,
            alert = claim.id,
            state,
            "an alert could not be sent: {said}"
        );
    }
    table::settle(&alerts.store, now, claim, state, due, said).await?;
    failpoint::pass("alert_settled").await;
    Ok(())
}

struct Parts<'a> {
    id: &'a str,
    headline: &'a str,
    body: &'a str,
}

/// One attempt. The text is the response, or the error, without secrets.
async fn send(
    sender: &Sender,
    choices: &Choices,
    target: &Target,
    now: Timestamp,
    written_at: Timestamp,
    parts: &Parts<'_>,
) -> (AttemptOutcome, String) {
    if target.kind == TargetKind::Email {
        let Some(server) = &choices.mail else {
            return (AttemptOutcome::Retry, "no mail server is set".to_owned());
        };
        let letter = Letter {
            id: parts.id,
            at: written_at,
            to: target.address.expose(),
            subject: parts.headline,
            text: parts.body,
        };
        let (outcome, said) = sender.mail(server, &letter).await;
        return (outcome, beginning(&Secrets::of(&server.password, &[]).hide(&said)));
    }
    let parcel =
        Parcel { id: parts.id, at: now, content_type: "application/json", body: parts.body };
    let answer = sender.post(&target.address, &target.secret, parcel).await;
    let (outcome, error) = destination::judge_by(&[], &[], &answer);
    let said = match (&answer, error) {
        (Answer::Http { status, body, .. }, None) => format!("{status} {body}"),
        (Answer::Http { body, .. }, Some(error)) => format!("{error} {body}"),
        (Answer::Nothing(_) | Answer::Blocked(_), error) => error.unwrap_or_default(),
    };
    let secrets = Secrets::of(&target.address, &[&target.secret]);
    (outcome, beginning(&secrets.hide(said.trim())))
}

/// Maximum length of a stored response.
fn beginning(said: &str) -> String {
    said.chars().take(500).collect()
}

/// Sends a test alert immediately, without storing it. Returns whether it was accepted, and the response.
pub(crate) async fn try_out(
    sender: &Sender,
    choices: &Choices,
    target: &Target,
    now: Timestamp,
) -> (bool, String) {
    let (headline, body) = words::test(target.kind, now, &choices.base);
    let id = table::new_message_id(now);
    let parts = Parts { id: &id, headline: &headline, body: &body };
    let (outcome, said) = send(sender, choices, target, now, now, &parts).await;
    (outcome == AttemptOutcome::Accepted, said)
}
