//! Compares current problems with the open incidents. Takes reports, the rules and open incidents; raises, repeats and
//! resolves incidents, and stores their messages, each in one transaction. A problem is reported once, repeated at
//! intervals while it lasts, and reported as resolved; one that comes and goes is not reported again and again.

use std::time::Duration;

use anyhow::Result;
use jiff::tz::TimeZone;

use super::table::{self, Incident, NewMessage};
use super::words::{Alert, Phase, Problem, What};
use super::{Alerts, CALM, Choices, Rules, Target};
use crate::clock::Timestamp;
use crate::destination;
use crate::failpoint;
use crate::ids;
use crate::report::{self, AtStake, QUARTER_MS, Stakes};
use crate::settings::{Destination, Snapshot, SourceKind};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);
/// With fewer attempts, a percentage means nothing.
const FEWEST_TRIES: i64 = 20;
/// With fewer payments, a percentage means nothing.
const FEWEST_PAYMENTS: i64 = 10;
/// Quarter hours with Stripe events that are needed to know the usual gap.
const FEWEST_HEARD: usize = 20;
/// A younger delivery is attempted before anyone could react to an alert, however soon it expires.
const JUST_WRITTEN: Duration = Duration::from_secs(5 * 60);
/// How long resolved incidents are kept.
const KEPT: Duration = Duration::from_secs(90 * 24 * 3600);

/// A problem that is seen, and the subject that identifies it.
struct Seen {
    subject: String,
    problem: Problem,
    /// Time of the newest delivery or event if each is reported, else the time of the check.
    newest_at: Timestamp,
    stakes: Scope,
}

/// Which deliveries are concerned.
enum Scope {
    /// Deliveries of a destination.
    Deliveries(String, AtStake),
    Known(Box<Stakes>),
}

/// Checks once.
pub(super) async fn look(alerts: &Alerts, choices: &Choices, targets: &[Target]) -> Result<()> {
    let (now, snapshot) = (alerts.clock.now(), alerts.settings.current());
    let seen = see(alerts, &choices.rules, &snapshot, now).await?;
    let open = table::open_incidents(&alerts.store).await?;
    let watch = Watch { alerts, choices, targets, snapshot: &snapshot, now };
    for found in &seen {
        match open.iter().find(|incident| incident.subject == found.subject) {
            None => watch.raise(found).await?,
            Some(incident) => watch.go_on(incident, found).await?,
        }
    }
    for incident in &open {
        if !seen.iter().any(|found| found.subject == incident.subject) {
            watch.see_it_gone(incident).await?;
        }
    }
    Ok(())
}

struct Watch<'a> {
    alerts: &'a Alerts,
    choices: &'a Choices,
    targets: &'a [Target],
    snapshot: &'a Snapshot,
    now: Timestamp,
}

impl Watch<'_> {
    async fn raise(&self, found: &Seen) -> Result<()> {
        let stakes = self.stakes(found).await?;
        let mut incident = Incident {
            id: ids::new_record_id("inc_", self.now),
            subject: found.subject.clone(),
            headline: String::new(),
            raised_at: self.now,
            sent_at: self.now,
            newest_at: found.newest_at,
            gone_at: None,
            resolved_at: None,
        };
        let zone = self.zone(&found.problem);
        let id = incident.id.clone();
        let alert = self.alert(&id, Phase::Raised, &zone, &found.problem, &stakes);
        incident.headline = alert.headline();
        let mut tx = self.alerts.store.begin().await?;
        table::forget(&mut tx, self.now.minus(KEPT)).await?;
        if table::raise(&mut tx, &incident, found.problem.what.word()).await? {
            for target in self.targets {
                self.enqueue(&mut tx, target, &alert).await?;
            }
            failpoint::pass("alert_writing").await;
            tx.commit().await?;
            failpoint::pass("alert_written").await;
            tracing::warn!(
                incident = incident.id,
                subject = incident.subject,
                "{}",
                incident.headline
            );
        }
        Ok(())
    }

    async fn go_on(&self, incident: &Incident, found: &Seen) -> Result<()> {
        let rules = &self.choices.rules;
        let silence = self.now.since(incident.sent_at);
        let is_time = if found.problem.what.counts_news() {
            found.newest_at > incident.newest_at
                && silence >= Duration::from_secs(u64::from(rules.digest_minutes) * 60)
        } else {
            rules.remind_hours > 0 && silence >= HOUR * rules.remind_hours
        };
        if !is_time {
            if incident.gone_at.is_some() {
                let mut tx = self.alerts.store.begin().await?;
                table::set_gone(&mut tx, &incident.id, None).await?;
                tx.commit().await?;
            }
            return Ok(());
        }
        let stakes = self.stakes(found).await?;
        let zone = self.zone(&found.problem);
        let alert = self.alert(&incident.id, Phase::Reminder, &zone, &found.problem, &stakes);
        let headline = alert.headline();
        let mut tx = self.alerts.store.begin().await?;
        if table::remind(&mut tx, self.now, incident, &headline, found.newest_at).await? {
            for target in self.targets {
                self.enqueue(&mut tx, target, &alert).await?;
            }
            tx.commit().await?;
        }
        Ok(())
    }

    async fn see_it_gone(&self, incident: &Incident) -> Result<()> {
        let mut tx = self.alerts.store.begin().await?;
        match incident.gone_at {
            None => {
                table::set_gone(&mut tx, &incident.id, Some(self.now)).await?;
                return tx.commit().await;
            }
            Some(gone_at) if self.now.since(gone_at) < CALM => return Ok(()),
            Some(_) => {}
        }
        if !table::resolve(&mut tx, self.now, &incident.id).await? {
            return Ok(());
        }
        let heard = table::take_back(&mut tx, &incident.id).await?;
        // An event that nobody fixed is only too old to be reported, which is no good news.
        let is_good_news = !is_news(incident) || self.now.since(incident.newest_at) < WEEK;
        if let Some(problem) = self.what_it_was(incident).filter(|_| is_good_news) {
            let (zone, stakes) = (self.zone(&problem), Stakes::default());
            let alert = self.alert(&incident.id, Phase::Resolved, &zone, &problem, &stakes);
            for target in self.targets.iter().filter(|target| heard.contains(&target.id)) {
                self.enqueue(&mut tx, target, &alert).await?;
            }
        }
        tx.commit().await?;
        tracing::info!(
            incident = incident.id,
            subject = incident.subject,
            "an incident is resolved"
        );
        Ok(())
    }

    /// The problem that an incident's subject names; `None` if its destination or site no longer exists.
    fn what_it_was(&self, incident: &Incident) -> Option<Problem> {
        let mut parts = incident.subject.split(':');
        let (word, about) = (parts.next()?, parts.next().unwrap_or_default());
        let what = ALL.into_iter().find(|what| what.word() == word)?;
        let destination = self.snapshot.destination(about);
        let mut problem = match (what, destination) {
            (What::Held | What::GivenUp | What::Slow | What::Expiring | What::Failing, None) => {
                return None;
            }
            (_, Some(found)) => about_destination(self.snapshot, found, what, incident.raised_at),
            (What::Unmatched, None) => {
                let site = self.snapshot.site(about)?;
                blank(what, &site.name, incident.raised_at, "/leaks")
            }
            (What::Silent, None) => {
                let source = self.snapshot.source(about)?;
                blank(what, &source.key, incident.raised_at, "/settings/sources")
            }
            (What::EventsFailed, None) => blank(what, "", incident.raised_at, "/events"),
        };
        problem.reason = parts.next().map(str::to_owned);
        Some(problem)
    }

    async fn stakes(&self, found: &Seen) -> Result<Stakes> {
        match &found.stakes {
            Scope::Known(stakes) => Ok((**stakes).clone()),
            Scope::Deliveries(id, at_stake) => {
                let mut stakes = report::stakes(&self.alerts.store, id, at_stake).await?;
                if let (Some(said), Some(to)) = (&stakes.last_error, self.snapshot.destination(id))
                {
                    stakes.last_error = Some(harmless(to, said));
                }
                Ok(stakes)
            }
        }
    }

    fn zone(&self, problem: &Problem) -> TimeZone {
        let site = problem.site.as_deref().and_then(|key| self.snapshot.site_by_key(key));
        let site = site.or(self.snapshot.sites.first());
        site.and_then(|site| TimeZone::get(&site.timezone).ok()).unwrap_or(TimeZone::UTC)
    }

    fn alert<'a>(
        &'a self,
        incident_id: &'a str,
        phase: Phase,
        zone: &'a TimeZone,
        problem: &'a Problem,
        stakes: &'a Stakes,
    ) -> Alert<'a> {
        let base = &self.choices.base;
        Alert { incident_id, phase, now: self.now, zone, base, problem, stakes }
    }

    async fn enqueue(
        &self,
        tx: &mut crate::store::AnyConnection,
        target: &Target,
        alert: &Alert<'_>,
    ) -> Result<()> {
        let message = NewMessage {
            target_id: &target.id,
            incident_id: alert.incident_id,
            id: &table::new_message_id(self.now),
            phase: alert.phase.word(),
            headline: &alert.headline(),
            body: &alert.body(target.kind),
        };
        table::enqueue(tx, self.now, &message).await
    }
}

const ALL: [What; 8] = [
    What::Held,
    What::GivenUp,
    What::Slow,
    What::Expiring,
    What::Failing,
    What::EventsFailed,
    What::Silent,
    What::Unmatched,
];

fn is_news(incident: &Incident) -> bool {
    let word = incident.subject.split(':').next().unwrap_or_default();
    ALL.into_iter().any(|what| what.word() == word && what.counts_news())
}

/// A destination's error, without our secrets, email addresses, and the URL it redirects to.
fn harmless(destination: &Destination, said: &str) -> String {
    if said.starts_with("it moved to ") {
        return "it moved to another address".to_owned();
    }
    without_addresses(&destination::hide_secrets(destination, said)).chars().take(300).collect()
}

/// Removes email addresses from a text, percent-encoded ones too.
fn without_addresses(text: &str) -> String {
    let is_part = |c: char| c.is_alphanumeric() || "._%+-@".contains(c);
    let words = text.split_inclusive(|c| !is_part(c));
    words
        .map(|word| {
            let part = word.trim_end_matches(|c| !is_part(c));
            let is_address = part.contains('@') || part.to_ascii_lowercase().contains("%40");
            if is_address {
                format!("(an email address){}", &word[part.len()..])
            } else {
                word.to_owned()
            }
        })
        .collect()
}

fn blank(what: What, name: &str, since: Timestamp, path: &str) -> Problem {
    Problem {
        what,
        name: name.to_owned(),
        destination: None,
        site: None,
        reason: None,
        error: None,
        part: 0,
        whole: 0,
        since,
        until: None,
        path: path.to_owned(),
    }
}

fn about_destination(
    snapshot: &Snapshot,
    destination: &Destination,
    what: What,
    since: Timestamp,
) -> Problem {
    let site = snapshot.site(&destination.site_id);
    let query = site.filter(|site| !site.is_first()).map(|site| format!("?site={}", site.key));
    let path = format!("/settings/destinations/{}{}", destination.key, query.unwrap_or_default());
    Problem {
        destination: Some(destination.key.clone()),
        site: site.map(|site| site.key.clone()),
        ..blank(what, &destination.name, since, &path)
    }
}

/// All current problems.
async fn see(
    alerts: &Alerts,
    rules: &Rules,
    snapshot: &Snapshot,
    now: Timestamp,
) -> Result<Vec<Seen>> {
    let mut seen = see_destinations(alerts, rules, snapshot, now).await?;
    seen.extend(see_failed_events(alerts, rules).await?);
    seen.extend(see_silence(alerts, rules, snapshot, now).await?);
    seen.extend(see_unmatched(alerts, rules, snapshot, now).await?);
    Ok(seen)
}

async fn see_destinations(
    alerts: &Alerts,
    rules: &Rules,
    snapshot: &Snapshot,
    now: Timestamp,
) -> Result<Vec<Seen>> {
    let (store, mut seen) = (&alerts.store, Vec::new());
    let down = report::down(store).await?;
    let tries = match (rules.refused_percent, rules.failing_percent) {
        (0, 0) => Vec::new(),
        _ => report::last_tries(store, now.minus(DAY)).await?,
    };
    let gave_up = match rules.given_up {
        true => report::gave_up(store, now.minus(WEEK)).await?,
        false => Vec::new(),
    };
    for destination in &snapshot.destinations {
        let id = &destination.id;
        let problem = |what, since| about_destination(snapshot, destination, what, since);
        for group in gave_up.iter().filter(|group| group.destination_id == *id) {
            let reason = Some(group.reason.clone());
            seen.push(Seen {
                subject: format!("given_up:{id}:{}", group.reason),
                problem: Problem {
                    reason: reason.clone(),
                    ..problem(What::GivenUp, group.newest_at)
                },
                newest_at: group.newest_at,
                stakes: Scope::Deliveries(id.clone(), AtStake::State("given_up", reason)),
            });
        }
        // Deliveries of a disabled destination expire, too.
        if rules.expires_hours > 0 {
            let by = now.plus(HOUR * rules.expires_hours);
            let first = report::first_to_expire(store, id, by, now.minus(JUST_WRITTEN)).await?;
            if let Some(until) = first {
                seen.push(Seen {
                    subject: format!("expiring:{id}"),
                    problem: Problem {
                        reason: (!destination.enabled).then(|| "held".to_owned()),
                        until: Some(until),
                        whole: i64::from(rules.expires_hours),
                        ..problem(What::Expiring, now)
                    },
                    newest_at: now,
                    stakes: Scope::Deliveries(id.clone(), AtStake::ExpiringBy(by)),
                });
            }
        }
        // The deliveries of a disabled destination are paused intentionally.
        if !destination.enabled {
            continue;
        }
        let pending = || Scope::Deliveries(id.clone(), AtStake::State("pending", None));
        if let Some((_, down)) = down.iter().find(|(down, _)| down == id) {
            // A destination that accepts nothing is slow and failing, too. It is reported only once.
            if rules.held {
                let error = down.error.as_deref().map(|said| harmless(destination, said));
                seen.push(Seen {
                    subject: format!("held:{id}"),
                    problem: Problem { error, ..problem(What::Held, down.since) },
                    newest_at: now,
                    stakes: pending(),
                });
            }
            continue;
        }
        let patience = Duration::from_secs(u64::from(rules.slow_minutes) * 60);
        if !patience.is_zero()
            && let Some(since) = report::waits_since(store, id, now).await?
            && now.since(since) >= patience
        {
            seen.push(Seen {
                subject: format!("slow:{id}"),
                problem: problem(What::Slow, since),
                newest_at: now,
                stakes: pending(),
            });
        }
        let tries = tries.iter().find(|tries| tries.destination_id == *id);
        if let Some(tries) = tries.filter(|tries| tries.all >= FEWEST_TRIES) {
            let failed = tries.all - tries.accepted;
            let is_over = |part: i64, percent: u32| {
                percent > 0 && part * 100 > tries.all * i64::from(percent)
            };
            if is_over(tries.refused, rules.refused_percent)
                || is_over(failed, rules.failing_percent)
            {
                let (part, whole) = (failed, tries.all);
                seen.push(Seen {
                    subject: format!("failing:{id}"),
                    problem: Problem { part, whole, ..problem(What::Failing, now) },
                    newest_at: now,
                    stakes: pending(),
                });
            }
        }
    }
    Ok(seen)
}

async fn see_failed_events(alerts: &Alerts, rules: &Rules) -> Result<Option<Seen>> {
    if !rules.events_failed {
        return Ok(None);
    }
    let Some((count, newest_at, error)) = report::failed_events(&alerts.store).await? else {
        return Ok(None);
    };
    let problem = Problem {
        part: count,
        error: error.as_deref().map(without_addresses),
        ..blank(What::EventsFailed, "", newest_at, "/events?state=failed")
    };
    let stakes = Scope::Known(Box::default());
    Ok(Some(Seen { subject: "events_failed".to_owned(), problem, newest_at, stakes }))
}

async fn see_silence(
    alerts: &Alerts,
    rules: &Rules,
    snapshot: &Snapshot,
    now: Timestamp,
) -> Result<Vec<Seen>> {
    let mut seen = Vec::new();
    if rules.silent_hours == 0 {
        return Ok(seen);
    }
    for source in snapshot.sources.iter().filter(|source| source.kind == SourceKind::Stripe) {
        let quarters =
            report::heard_quarters(&alerts.store, &source.id, now.minus(WEEK * 2)).await?;
        let Some(usual) = usual_gap(&quarters) else { continue };
        let last = quarters.last().copied().unwrap_or_default().saturating_mul(QUARTER_MS);
        let last = Timestamp::from_ms(last);
        if now.since(last) >= (usual * 3).max(HOUR * rules.silent_hours) {
            let problem = blank(
                What::Silent,
                &source.key,
                last,
                &format!("/settings/sources/{}", source.key),
            );
            seen.push(Seen {
                subject: format!("silent:{}", source.id),
                problem,
                newest_at: now,
                stakes: Scope::Known(Box::default()),
            });
        }
    }
    Ok(seen)
}

/// The longest gap of an ordinary day, because shops are quiet at night. `None` if too little is known.
fn usual_gap(quarters: &[i64]) -> Option<Duration> {
    const QUARTERS_A_DAY: i64 = 96;
    if quarters.len() < FEWEST_HEARD {
        return None;
    }
    let mut longest = std::collections::BTreeMap::<i64, i64>::new();
    for pair in quarters.windows(2) {
        let [before, after] = pair else { continue };
        let of_day = longest.entry(after.div_euclid(QUARTERS_A_DAY)).or_default();
        *of_day = (*of_day).max(after - before);
    }
    let mut gaps: Vec<i64> = longest.into_values().collect();
    gaps.sort_unstable();
    let middle = *gaps.get(gaps.len() / 2)?;
    Some(Duration::from_millis(u64::try_from(middle.saturating_mul(QUARTER_MS)).ok()?))
}

async fn see_unmatched(
    alerts: &Alerts,
    rules: &Rules,
    snapshot: &Snapshot,
    now: Timestamp,
) -> Result<Vec<Seen>> {
    let mut seen = Vec::new();
    let percent = i128::from(rules.unmatched_percent);
    if percent == 0 {
        return Ok(seen);
    }
    for site in &snapshot.sites {
        let (store, yesterday) = (&alerts.store, now.minus(DAY));
        let today = report::matched_money(store, &site.id, yesterday, now).await?;
        let is_much = |found: &&report::Matched| {
            let (lost, all) = (i128::from(found.unmatched.minor), i128::from(found.all.minor));
            found.payments >= FEWEST_PAYMENTS && lost * 100 > all * percent
        };
        let Some(worst) = today.iter().filter(is_much).max_by_key(|found| found.payments) else {
            continue;
        };
        let before =
            report::matched_money(store, &site.id, now.minus(DAY + WEEK), yesterday).await?;
        let before = before.iter().find(|sum| sum.all.currency == worst.all.currency);
        let is_usual = before.is_some_and(|before| {
            let product = |a: i64, b: i64| i128::from(a) * i128::from(b);
            product(worst.unmatched.minor, before.all.minor)
                <= product(before.unmatched.minor, worst.all.minor) * 2
        });
        if is_usual {
            continue;
        }
        let mut stakes = Stakes::default();
        stakes.money.add(worst.unmatched);
        let query = if site.is_first() { String::new() } else { format!("?site={}", site.key) };
        seen.push(Seen {
            subject: format!("unmatched:{}", site.id),
            problem: Problem {
                site: Some(site.key.clone()),
                part: worst.unmatched_payments,
                whole: worst.payments,
                ..blank(What::Unmatched, &site.name, now, &format!("/leaks{query}"))
            },
            newest_at: now,
            stakes: Scope::Known(Box::new(stakes)),
        });
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_buyers_address_leaves_in_what_others_said() {
        let rows = [
            ("unknown lead jenny.rosen@example.com.", "unknown lead (an email address)"),
            (r#"{"email":"a+b@c.de","ok":0}"#, r#"{"email":"(an email address)","ok":0}"#),
            ("/x?email=jenny%40example.com&y=1", "/x?email=(an email address)&y=1"),
            ("500 no such thing, 20% off", "500 no such thing, 20% off"),
        ];
        for (said, expected) in rows {
            assert_eq!(without_addresses(said), expected);
        }
    }

    #[test]
    fn a_shop_that_sleeps_at_night_is_not_silent_in_the_morning() {
        // Events every hour from 8 to 20 o'clock, for six days.
        let by_day: Vec<i64> =
            (0..6).flat_map(|day| (8..=20).map(move |hour| day * 96 + hour * 4)).collect();
        assert_eq!(usual_gap(&by_day), Some(HOUR * 12));
        let busy: Vec<i64> = (0..600).collect();
        assert_eq!(usual_gap(&busy), Some(Duration::from_secs(900)));
        assert_eq!(usual_gap(&busy[..10]), None, "too little is known");
    }
}
