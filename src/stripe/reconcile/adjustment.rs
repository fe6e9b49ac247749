//! Compares refunds and disputes.
//! Takes Stripe's records; adds each refund and dispute to the outcome, and those here that Stripe does not list.
//! One whose payment is neither in the ledger nor in Stripe's records of the range is no difference; it is only counted.

use std::collections::BTreeMap;

use anyhow::Result;

use super::comparison::{Comparison, Outcome, PAID_WITHIN};
use super::ledgered::{Ledgered, Seen};
use super::list::Records;
use super::object::{self, About, Dispute, Effect, Paid, Refund};
use super::result::{Kind, NotCompared, Part};
use super::sheet::{Found, Item, shown};
use super::{fix, table};
use crate::clock::Timestamp;
use crate::money::Money;
use crate::stripe::backfill;

const NOT_IN_LEDGER: &str = "of payments that are not in the ledger";

/// Where the payment of a refund or dispute is.
enum Place<'a> {
    /// In the ledger, and counted.
    Counted(Ledgered),
    /// In Stripe's records. The ledger may have the refund or dispute without its payment.
    Listed(&'a Paid, Option<Ledgered>),
    /// In neither.
    Outside,
}

impl Place<'_> {
    fn ledgered(&self) -> Option<&Ledgered> {
        match self {
            Self::Counted(ledgered) => Some(ledgered),
            Self::Listed(_, ledgered) => ledgered.as_ref(),
            Self::Outside => None,
        }
    }
}

/// A refund or dispute on both sides, and what is wrong with it.
struct Verdict<'a> {
    kind: Kind,
    id: &'a str,
    created: Timestamp,
    /// What it takes, according to Stripe's records.
    stripe: Option<Money>,
    /// The same as text.
    shown_stripe: String,
    seen: Seen,
    shown_here: Option<String>,
    fix: Option<String>,
    /// The event that is missing here.
    missing: Option<String>,
}

/// Compares every refund and dispute in Stripe's records.
pub(super) async fn compare(
    comparison: &Comparison<'_>,
    records: &Records,
    outcome: &mut Outcome<'_>,
) -> Result<()> {
    let payers = records.payers();
    let mut outside = 0;
    for refund in records.refunds.iter().filter(|refund| !refund.is_release) {
        match place(comparison, &payers, &refund.id, &refund.about).await? {
            Place::Outside => outside += u64::from(!refund.has_failed()),
            place @ (Place::Counted(_) | Place::Listed(..)) => {
                let verdict = judge_refund(comparison, records, refund, &place).await?;
                conclude(comparison, &place, &refund.about, verdict, outcome).await?;
            }
        }
    }
    outcome.not_compared.extend(NotCompared::some(Part::Refunds, outside, NOT_IN_LEDGER));
    outside = 0;
    for dispute in &records.disputes {
        match place(comparison, &payers, &dispute.id, &dispute.about).await? {
            Place::Outside => outside += u64::from(dispute.effect != Effect::None),
            place @ (Place::Counted(_) | Place::Listed(..)) => {
                let verdict = judge_dispute(comparison, dispute, &place).await?;
                conclude(comparison, &place, &dispute.about, verdict, outcome).await?;
            }
        }
    }
    outcome.not_compared.extend(NotCompared::some(Part::Disputes, outside, NOT_IN_LEDGER));
    surplus(comparison, records, outcome).await
}

async fn place<'a>(
    comparison: &Comparison<'_>,
    payers: &BTreeMap<&str, &'a Paid>,
    id: &str,
    about: &About,
) -> Result<Place<'a>> {
    let mut known = None;
    for name in [Some(id), about.charge.as_deref(), about.intent.as_deref()].into_iter().flatten() {
        match table::ledgered(comparison, name).await? {
            Some(found) if found.is_counted() => return Ok(Place::Counted(found)),
            // Its owner said that it is the receipt of a payment that is counted.
            Some(found) if found.is_duplicate() => return Ok(Place::Outside),
            found => known = known.or(found),
        }
    }
    let payer = about.intent.as_deref().and_then(|intent| payers.get(intent));
    Ok(payer.map_or(Place::Outside, |payer| Place::Listed(payer, known)))
}

async fn judge_refund<'a>(
    comparison: &Comparison<'_>,
    records: &Records,
    refund: &'a Refund,
    place: &Place<'_>,
) -> Result<Verdict<'a>> {
    let stripe = (!refund.has_failed()).then_some(refund.money);
    let seen = place.ledgered().map_or(Seen::Missing, |it| it.refund(refund, records));
    let event = || {
        let kind = if refund.has_failed() { "refund.failed" } else { "refund.created" };
        let account = comparison.account;
        Some(backfill::as_event_of_state(kind, &refund.status, account, &refund.raw))
    };
    let (fix, missing) = match (stripe, seen) {
        (None, Seen::Missing | Seen::Nothing) => (None, None),
        (None, Seen::Counts(_)) => (Some(fix::late(&refund.status, "counted")), event()),
        (Some(_), Seen::Missing) => (Some(not_here(comparison, &refund.id).await?), event()),
        (Some(_), Seen::Nothing) => (Some(fix::final_here(&refund.status, "failed")), None),
        (Some(money), Seen::Counts(here)) if here != money => (Some(fix::other_amount()), None),
        (Some(_), Seen::Counts(_)) => match place {
            Place::Counted(it) if !it.refunds_include(refund) => (Some(fix::not_counted()), None),
            Place::Counted(_) | Place::Listed(..) | Place::Outside => (None, None),
        },
    };
    let amount = shown(refund.money);
    Ok(Verdict {
        kind: Kind::Refund,
        id: &refund.id,
        created: refund.created,
        stripe,
        shown_stripe: if refund.has_failed() {
            format!("{amount}, {}", refund.status)
        } else {
            amount.clone()
        },
        seen,
        shown_here: match seen {
            Seen::Missing => None,
            Seen::Counts(money) => Some(shown(money)),
            Seen::Nothing => Some(format!("{amount}, failed")),
        },
        fix,
        missing,
    })
}

async fn judge_dispute<'a>(
    comparison: &Comparison<'_>,
    dispute: &'a Dispute,
    place: &Place<'_>,
) -> Result<Verdict<'a>> {
    let stripe = (dispute.effect != Effect::None).then_some(dispute.money);
    let known = place.ledgered().map(|it| it.dispute(&dispute.id));
    let (seen, effect) = known.unwrap_or((Seen::Missing, Effect::None));
    let is_won = place.ledgered().is_some_and(|it| it.is_won(&dispute.id));
    let status_here = match (seen, effect) {
        (_, Effect::Lost) => "lost",
        (_, Effect::Withheld) => "open",
        (_, Effect::None) if is_won => "won",
        (_, Effect::None) => "an inquiry",
    };
    let event = || {
        let is_open = dispute.effect == Effect::Withheld || dispute.status.starts_with("warning_");
        let kind = if is_open { "charge.dispute.created" } else { "charge.dispute.closed" };
        let account = comparison.account;
        Some(backfill::as_event_of_state(kind, &dispute.status, account, &dispute.raw))
    };
    let plain = dispute.status.replace('_', " ");
    let (fix, missing) = match (stripe, seen) {
        (None, Seen::Missing | Seen::Nothing) => (None, None),
        (None, Seen::Counts(_)) => (Some(fix::late(&plain, status_here)), event()),
        (Some(_), Seen::Missing) => (Some(not_here(comparison, &dispute.id).await?), event()),
        (Some(_), Seen::Nothing) if is_won => (Some(fix::final_here(&plain, "won")), None),
        (Some(_), Seen::Nothing) => (Some(fix::late(&plain, status_here)), event()),
        (Some(money), Seen::Counts(here)) if here != money => (Some(fix::other_amount()), None),
        (Some(_), Seen::Counts(_)) if dispute.effect == Effect::Lost && effect != Effect::Lost => {
            (Some(fix::late(&plain, status_here)), event())
        }
        // One that was lost and is appealed counts as lost until it is won.
        (Some(_), Seen::Counts(_)) => match place {
            Place::Counted(it) if !it.disputes_include(dispute, effect) => {
                (Some(fix::not_counted()), None)
            }
            Place::Counted(_) | Place::Listed(..) | Place::Outside => (None, None),
        },
    };
    let here = seen.money().unwrap_or(dispute.money);
    let is_known = seen != Seen::Missing;
    Ok(Verdict {
        kind: Kind::Dispute,
        id: &dispute.id,
        created: dispute.created,
        stripe,
        shown_stripe: format!("{}, {plain}", shown(dispute.money)),
        seen,
        shown_here: is_known.then(|| format!("{}, {status_here}", shown(here))),
        fix,
        missing,
    })
}

async fn not_here(comparison: &Comparison<'_>, id: &str) -> Result<String> {
    let arrived = table::arrived(comparison.store, comparison.account, id).await?;
    Ok(fix::missing(arrived.as_ref()))
}

/// Adds a verdict to the outcome; also where the refund or dispute is here, but not connected with its payment.
async fn conclude(
    comparison: &Comparison<'_>,
    place: &Place<'_>,
    about: &About,
    verdict: Verdict<'_>,
    outcome: &mut Outcome<'_>,
) -> Result<()> {
    let Verdict { kind, id, created, stripe, seen, missing, .. } = verdict;
    if stripe.is_none() && seen.money().is_none() {
        return Ok(());
    }
    outcome.missing.extend(missing);
    let (mut fix, mut here) = (verdict.fix, seen.money());
    if let Place::Listed(payer, _) = place {
        let (store, account) = (comparison.store, comparison.account);
        let paid = table::here(store, account, &payer.id).await?.filter(|it| it.is_paid);
        if paid.is_some() && here.is_some() && fix.is_none() {
            (fix, here) = (Some(fix::not_connected(&payer.id)), None);
        }
        let tie = about.intent.as_deref().and_then(|intent| payer.invoice_payment(intent));
        if let Some(tie) = tie.filter(|_| fix.is_some()) {
            outcome.missing.push(backfill::as_event("invoice_payment.paid", account, &tie));
        }
    }
    let conversion_id = place.ledgered().and_then(Ledgered::conversion_id);
    let (shown_stripe, shown_here) = (Some(verdict.shown_stripe), verdict.shown_here);
    let difference =
        fix.map(|fix| Found { conversion_id, stripe: shown_stripe, here: shown_here, fix });
    outcome.sheet.add(Item { kind, id, created, stripe, here, difference });
    Ok(())
}

/// Adds refunds and disputes that are counted here and that Stripe does not list.
async fn surplus(
    comparison: &Comparison<'_>,
    records: &Records,
    outcome: &mut Outcome<'_>,
) -> Result<()> {
    let range = comparison.range;
    let late = range.until.plus(PAID_WITHIN);
    for (id, candidate) in table::adjustments(comparison, late).await? {
        let is_refund = candidate.part == Part::Refunds;
        let is_listed = records.refunds.iter().any(|refund| refund.id == id)
            || records.disputes.iter().any(|dispute| dispute.id == id);
        if is_listed || !records.complete.contains(&candidate.part) {
            continue;
        }
        let Some(ledgered) = table::ledgered(comparison, &id).await? else { continue };
        let is_ours = ledgered
            .conversion
            .as_ref()
            .is_some_and(|totals| comparison.records.sources.contains(&totals.source_id));
        let seen = if is_refund {
            ledgered.refund_by_id(&id).unwrap_or(Seen::Nothing)
        } else {
            ledgered.dispute(&id).0
        };
        let (Some(money), Some(conversion_id)) = (seen.money(), ledgered.conversion_id()) else {
            continue;
        };
        let body = table::body(comparison.store, &candidate.event).await?;
        let created = object::created_in(&body).filter(|at| range.contains(*at));
        let Some(created) = created.filter(|_| is_ours && ledgered.is_counted()) else { continue };
        let what = if is_refund { "refund" } else { "dispute" };
        let fix = fix::surplus(what, &conversion_id);
        outcome.sheet.add(Item {
            kind: if is_refund { Kind::Refund } else { Kind::Dispute },
            id: &id,
            created,
            stripe: None,
            here: Some(money),
            difference: Some(Found {
                conversion_id: Some(conversion_id),
                stripe: None,
                here: Some(shown(money)),
                fix,
            }),
        });
    }
    Ok(())
}
