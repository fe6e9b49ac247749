//! Custom events that a site's pages report with `clickstamp("event", …)`.
//! Takes events that the tag's endpoint stored; writes conversions with the event's name, matched
//! by their click ID, in one transaction with their queued messages.
//! Guarantees that no amount is read from an event, because browsers are not trusted with money;
//! that an event that arrives twice is one conversion; and that an event that the ledger can't
//! process fails alone and visibly.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use anyhow::Result;
use futures_util::FutureExt as _;

use super::statement;
use crate::clock::Timestamp;
use crate::conversion::object::{ObjectFacts, ObjectKind, PayFact};
use crate::conversion::payment::Payment;
use crate::conversion::reported::Reported;
use crate::conversion::{self, Ledger};
use crate::ids::{self, ClickIdKey};
use crate::settings::{self, Settings, Snapshot, Source};
use crate::store::Store;
use crate::visit::{self, PageEvent, WaitingEvent};

/// Events per batch; the others wait for the next one.
const EVENTS_AT_A_TIME: i64 = 100;
/// Tries before an event that keeps failing is shown as failed: more than two hours with growing
/// pauses.
const MAX_TRIES: i64 = 12;

/// Processes due events that were received, or became due, since a time. Returns the number of
/// events that ended.
pub(crate) async fn round(
    store: &Store,
    settings: &Settings,
    keys: &ClickIdKey,
    (now, since): (Timestamp, Timestamp),
) -> Result<usize> {
    let mut ended = 0;
    for WaitingEvent { id, attempts, event } in
        visit::events_waiting(store, (now, since), EVENTS_AT_A_TIME).await?
    {
        let taken = match &event {
            Ok(event) => {
                let taken = AssertUnwindSafe(take(store, settings, keys, now, event));
                taken.catch_unwind().await.unwrap_or_else(|_| {
                    Ok(Err("Clickstamp panicked while it read the event; see the log".to_owned()))
                })
            }
            Err(error) => Ok(Err(format!("the stored event can't be read: {error:#}"))),
        };
        let (error, again_at) = match taken {
            Ok(Ok(is_ours)) => {
                ended += usize::from(is_ours);
                continue;
            }
            Ok(Err(fault)) => (fault, None),
            Err(error) => {
                let pause = Duration::from_secs(1 << attempts.clamp(0, 11));
                let again_at = (attempts + 1 < MAX_TRIES).then(|| now.plus(pause));
                (format!("{error:#}"), again_at)
            }
        };
        tracing::error!(event = id, error, "could not process a page event");
        visit::put_event_off(store, now, &id, again_at, &error).await?;
        ended += usize::from(again_at.is_none());
    }
    Ok(ended)
}

/// Processes an event. Returns false if another copy is processing it or has ended it. The inner
/// error is permanent; the outer one may be temporary.
async fn take(
    store: &Store,
    settings: &Settings,
    keys: &ClickIdKey,
    now: Timestamp,
    event: &PageEvent,
) -> Result<Result<bool, String>> {
    let mut snapshot = settings.current();
    if snapshot.page_source(&event.site_id).is_none()
        && let Some(site) = snapshot.site(&event.site_id)
    {
        settings::add_page_source(store, settings, now, site).await?;
        snapshot = settings.current();
    }
    let ledger = Ledger { keys, settings: &snapshot, later: Some(settings), now };
    let (mut tx, snapshot) = ledger.begin(store).await?;
    let ledger = ledger.with(&snapshot);
    let payment = payment(keys, &snapshot, event)?;
    if !visit::take_event(&mut tx, &event.id).await? {
        tx.commit().await?;
        return Ok(Ok(false));
    }
    let processed = conversion::process(&mut tx, ledger, payment).await?;
    let Some(conversion_id) = processed.conversion_id else {
        return Ok(Err("it states no conversion".to_owned()));
    };
    visit::settle_event(&mut tx, &event.id, &conversion_id).await?;
    tx.commit().await?;
    Ok(Ok(true))
}

/// Makes a failed event due again; returns false if there is no such event.
pub(crate) async fn rerun(store: &Store, now: Timestamp, id: &str) -> Result<bool> {
    visit::rerun_event(store, now, id).await
}

/// Records every stored event again for a replay of the ledger. Returns their number.
pub(super) async fn replay(store: &Store, ledger: Ledger<'_>) -> Result<usize> {
    let (mut count, mut after) = (0, None);
    loop {
        let events = visit::events_after(store, after.as_ref(), EVENTS_AT_A_TIME).await?;
        for event in &events {
            let mut tx = store.begin().await?;
            let payment = payment(ledger.keys, ledger.settings, event)?;
            conversion::process(&mut tx, ledger, payment).await?;
            tx.commit().await?;
        }
        count += events.len();
        match events.into_iter().last() {
            Some(last) => after = Some(last),
            None => return Ok(count),
        }
    }
}

/// The facts of an event: its click ID, name and properties.
fn payment(keys: &ClickIdKey, settings: &Snapshot, event: &PageEvent) -> Result<Payment> {
    let source = settings.page_source(&event.site_id);
    let source = source.ok_or_else(|| anyhow::anyhow!("the event's site is gone"))?;
    // A click ID of another site matches nothing here, like a forged one.
    let is_of_here = keys.read(&event.click_id).is_none_or(|minted| {
        settings.site(&event.site_id).is_some_and(|site| site.number == minted.site_number)
    });
    Ok(facts(source, event, is_of_here))
}

fn facts(source: &Source, event: &PageEvent, is_of_here: bool) -> Payment {
    let click_id = event.click_id.as_str();
    let key = format!("live:{}:{click_id}:{}", event.name, event.sent_at_ms);
    let name = ids::sha256_hex(format!("{}:{key}", source.id).as_bytes());
    let mut params = event.properties.clone();
    if let Some(url) = &event.url {
        params.entry("page".to_owned()).or_insert_with(|| url.clone());
    }
    let facts = ObjectFacts {
        pay_fact: PayFact::Paid,
        stated_at: Some(event.received_at),
        paid_at: Some(event.received_at),
        ..ObjectFacts::default()
    };
    Payment {
        account: statement::account(&source.id),
        livemode: true,
        source_id: Some(source.id.clone()),
        facts: BTreeMap::from([(ObjectKind::Report, facts)]),
        client_reference_id: is_of_here.then(|| click_id.to_owned()),
        reported: Some(Reported {
            key,
            kind: statement::kind_of(&event.name),
            transaction_id: format!("page_{}", &name[..24]),
            params,
            ..Reported::default()
        }),
        ..Payment::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ClickId;

    #[test]
    fn an_events_key_tells_repeats_from_new_ones_and_a_click_id_of_elsewhere_is_not_named() {
        let event = PageEvent {
            id: "pev_1".to_owned(),
            site_id: "site_1".to_owned(),
            click_id: ClickId::parse("ck_0123456789abcdefghjkmnpqrstvwxyz").unwrap(),
            sent_at_ms: 1,
            name: "LEAD".to_owned(),
            received_at: Timestamp::from_ms(7),
            url: Some("https://a/".to_owned()),
            properties: [("page".to_owned(), "mine".to_owned())].into(),
        };
        let source = Source::sample("click_id");
        let first = facts(&source, &event, true);
        let reported = first.reported.clone().unwrap();
        assert_eq!((reported.kind.as_str(), reported.params["page"].as_str()), ("lead", "mine"));
        assert_eq!(first.client_reference_id.as_deref(), Some(event.click_id.as_str()));
        assert!(first.facts[&ObjectKind::Report].amounts.is_none());
        let again = PageEvent { id: "pev_2".to_owned(), ..event.clone() };
        assert_eq!(facts(&source, &again, true), first);
        assert_eq!(facts(&source, &event, false).client_reference_id, None);
        for other in [
            PageEvent { sent_at_ms: 2, ..event.clone() },
            PageEvent { name: "Other".to_owned(), ..event.clone() },
        ] {
            let other = facts(&source, &other, true).reported.unwrap();
            assert_ne!(other.key, reported.key);
            assert_ne!(other.transaction_id, reported.transaction_id);
        }
    }
}
