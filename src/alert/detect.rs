//! Finds current problems in what reports say.
//! Takes the owner's rules and the settings; returns each problem with the subject that identifies
//! it, the deliveries and money concerned.
//! Reads only; one problem is found once, also if it breaks several rules.

use std::time::Duration;

use anyhow::Result;

use super::choices::{Alerts, Rules};
use super::shared::shared;
use super::words::Problem;
use crate::clock::Timestamp;
use crate::destination;
use crate::domain::{AlertKind, QUARTER_MS, QUARTERS_A_DAY};
use crate::report::{self, AtStake, Stakes};
use crate::settings::{Destination, Site, Snapshot};
use crate::store::Store;

pub(super) const HOUR: Duration = Duration::from_secs(3600);

const DAY: Duration = Duration::from_secs(24 * 3600);

pub(super) const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// With fewer attempts, a percentage means nothing.
const FEWEST_TRIES: i64 = 20;

/// With fewer payments, a percentage means nothing.
const FEWEST_PAYMENTS: i64 = 10;

/// Quarter hours with Stripe events that are needed to know the usual gap.
const FEWEST_HEARD: usize = 20;

/// A younger delivery is attempted before anyone could react to an alert, however soon it expires.
const JUST_WRITTEN: Duration = Duration::from_secs(5 * 60);

/// A problem that is seen, and the subject that identifies it.
pub(super) struct Seen {
    pub(super) subject: String,
    pub(super) problem: Problem,
    /// Time of the newest delivery or event if each is reported, else the time of the check.
    pub(super) newest_at: Timestamp,
    pub(super) stakes: Scope,
}

/// Which deliveries are concerned.
pub(super) enum Scope {
    /// Deliveries of a destination.
    Deliveries(String, AtStake),
    Known(Box<Stakes>),
}

/// All current problems.
pub(super) async fn see(
    alerts: &Alerts,
    rules: &Rules,
    snapshot: &Snapshot,
    now: Timestamp,
) -> Result<Vec<Seen>> {
    let look = Look { store: &alerts.store, rules, snapshot, now };
    let mut seen = look.destinations().await?;
    seen.extend(look.failed_events().await?);
    seen.extend(look.silence().await?);
    seen.extend(look.unmatched().await?);
    seen.extend(look.shared_click_ids().await?);
    Ok(seen)
}

/// One check.
struct Look<'a> {
    store: &'a Store,
    rules: &'a Rules,
    snapshot: &'a Snapshot,
    now: Timestamp,
}

impl Look<'_> {
    async fn destinations(&self) -> Result<Vec<Seen>> {
        let Self { store, rules, now, .. } = *self;
        let down = report::down(store).await?;
        let (mut tries, mut gave_up) = (Vec::new(), Vec::new());
        if rules.refused_percent > 0 || rules.failing_percent > 0 {
            tries = report::last_tries(store, now.minus(DAY)).await?;
        }
        if rules.given_up {
            gave_up = report::gave_up(store, now.minus(WEEK)).await?;
        }
        let mut seen = Vec::new();
        for destination in &self.snapshot.destinations {
            let id = &destination.id;
            let failed = gave_up.iter().filter(|group| group.destination_id == *id);
            seen.extend(failed.map(|group| self.given_up(destination, group)));
            // Deliveries of a disabled destination expire, too.
            seen.extend(self.expiring(destination).await?);
            // The deliveries of a disabled destination are paused intentionally.
            if !destination.enabled {
                continue;
            }
            if let Some((_, down)) = down.iter().find(|(down, _)| down == id) {
                // A destination that accepts nothing is slow and failing, too. It is reported only
                // once.
                seen.extend(rules.held.then(|| self.held(destination, down)));
                continue;
            }
            seen.extend(self.slow(destination).await?);
            let tries = tries.iter().find(|tries| tries.destination_id == *id);
            seen.extend(tries.and_then(|tries| self.failing(destination, tries)));
        }
        Ok(seen)
    }

    fn problem(&self, destination: &Destination, what: AlertKind, since: Timestamp) -> Problem {
        about_destination(self.snapshot, destination, what, since)
    }

    /// A problem of a destination whose pending deliveries are concerned.
    fn pending(&self, destination: &Destination, problem: Problem) -> Seen {
        Seen {
            subject: format!("{}:{}", problem.what, destination.id),
            problem,
            newest_at: self.now,
            stakes: Scope::Deliveries(destination.id.clone(), AtStake::State("pending", None)),
        }
    }

    fn given_up(&self, destination: &Destination, group: &report::GaveUp) -> Seen {
        let (id, reason) = (&destination.id, Some(group.reason.clone()));
        let problem = self.problem(destination, AlertKind::GivenUp, group.newest_at);
        Seen {
            subject: format!("given_up:{id}:{}", group.reason),
            problem: Problem { reason: reason.clone(), ..problem },
            newest_at: group.newest_at,
            stakes: Scope::Deliveries(id.clone(), AtStake::State("given_up", reason)),
        }
    }

    async fn expiring(&self, destination: &Destination) -> Result<Option<Seen>> {
        let hours = self.rules.expires_hours;
        if hours == 0 {
            return Ok(None);
        }
        let (now, by) = (self.now, self.now.plus(HOUR * hours));
        let since = now.minus(JUST_WRITTEN);
        let until = report::first_to_expire(self.store, &destination.id, by, since).await?;
        if until.is_none() {
            return Ok(None);
        }
        let problem = Problem {
            reason: (!destination.enabled).then(|| "held".to_owned()),
            until,
            whole: i64::from(hours),
            ..self.problem(destination, AlertKind::Expiring, now)
        };
        let stakes = Scope::Deliveries(destination.id.clone(), AtStake::ExpiringBy(by));
        Ok(Some(Seen { stakes, ..self.pending(destination, problem) }))
    }

    fn held(&self, destination: &Destination, down: &report::Down) -> Seen {
        let error = down.error.as_deref().map(|said| harmless(destination, said));
        let problem = self.problem(destination, AlertKind::Held, down.since);
        self.pending(destination, Problem { error, ..problem })
    }

    async fn slow(&self, destination: &Destination) -> Result<Option<Seen>> {
        let patience = Duration::from_secs(u64::from(self.rules.slow_minutes) * 60);
        if patience.is_zero() {
            return Ok(None);
        }
        let since = report::waits_since(self.store, &destination.id, self.now).await?;
        let since = since.filter(|since| self.now.since(*since) >= patience);
        Ok(since.map(|since| {
            self.pending(destination, self.problem(destination, AlertKind::Slow, since))
        }))
    }

    fn failing(&self, destination: &Destination, tries: &report::Tries) -> Option<Seen> {
        let failed = tries.all - tries.accepted;
        let is_over =
            |part: i64, percent: u32| percent > 0 && part * 100 > tries.all * i64::from(percent);
        let is_failing = is_over(tries.refused, self.rules.refused_percent)
            || is_over(failed, self.rules.failing_percent);
        if tries.all < FEWEST_TRIES || !is_failing {
            return None;
        }
        let problem = self.problem(destination, AlertKind::Failing, self.now);
        Some(self.pending(destination, Problem { part: failed, whole: tries.all, ..problem }))
    }

    async fn failed_events(&self) -> Result<Option<Seen>> {
        if !self.rules.events_failed {
            return Ok(None);
        }
        let found = report::failed_events(self.store).await?;
        let Some((count, newest_at, error)) = found else { return Ok(None) };
        let problem = Problem {
            part: count,
            error: error.as_deref().map(without_addresses),
            ..blank(AlertKind::EventsFailed, "", newest_at, "/events?state=failed")
        };
        let stakes = Scope::Known(Box::default());
        Ok(Some(Seen { subject: "events_failed".to_owned(), problem, newest_at, stakes }))
    }

    async fn silence(&self) -> Result<Vec<Seen>> {
        let (now, mut seen) = (self.now, Vec::new());
        if self.rules.silent_hours == 0 {
            return Ok(seen);
        }
        for source in self.snapshot.stripe_sources() {
            let quarters =
                report::heard_quarters(self.store, &source.id, now.minus(WEEK * 2)).await?;
            let Some(usual) = usual_gap(&quarters) else { continue };
            let last = quarters.last().copied().unwrap_or_default().saturating_mul(QUARTER_MS);
            let last = Timestamp::from_ms(last);
            if now.since(last) >= (usual * 3).max(HOUR * self.rules.silent_hours) {
                let path = format!("/settings/sources/{}", source.key);
                seen.push(Seen {
                    subject: format!("silent:{}", source.id),
                    problem: blank(AlertKind::Silent, &source.key, last, &path),
                    newest_at: now,
                    stakes: Scope::Known(Box::default()),
                });
            }
        }
        Ok(seen)
    }

    async fn unmatched(&self) -> Result<Vec<Seen>> {
        let mut seen = Vec::new();
        if self.rules.unmatched_percent > 0 {
            for site in &self.snapshot.sites {
                seen.extend(self.unmatched_of(site).await?);
            }
        }
        Ok(seen)
    }

    async fn unmatched_of(&self, site: &Site) -> Result<Option<Seen>> {
        let (now, percent) = (self.now, i128::from(self.rules.unmatched_percent));
        let yesterday = now.minus(DAY);
        let today = report::matched_money(self.store, &site.id, yesterday, now).await?;
        let is_much = |found: &&report::Matched| {
            let (lost, all) = (i128::from(found.unmatched.minor), i128::from(found.all.minor));
            found.payments >= FEWEST_PAYMENTS && lost * 100 > all * percent
        };
        let worst = today.iter().filter(is_much).max_by_key(|found| found.payments);
        let Some(worst) = worst else { return Ok(None) };
        let week = now.minus(DAY + WEEK);
        let before = report::matched_money(self.store, &site.id, week, yesterday).await?;
        let before = before.iter().find(|sum| sum.all.currency == worst.all.currency);
        let is_usual = before.is_some_and(|before| {
            let product = |a: i64, b: i64| i128::from(a) * i128::from(b);
            product(worst.unmatched.minor, before.all.minor)
                <= product(before.unmatched.minor, worst.all.minor) * 2
        });
        if is_usual {
            return Ok(None);
        }
        let mut stakes = Stakes::default();
        stakes.money.add(worst.unmatched);
        let query = if site.is_first() { String::new() } else { format!("?site={}", site.key) };
        Ok(Some(Seen {
            subject: format!("unmatched:{}", site.id),
            problem: Problem {
                site: Some(site.key.clone()),
                part: worst.unmatched_payments,
                whole: worst.payments,
                ..blank(AlertKind::Unmatched, &site.name, now, &format!("/leaks{query}"))
            },
            newest_at: now,
            stakes: Scope::Known(Box::new(stakes)),
        }))
    }
}

impl Look<'_> {
    async fn shared_click_ids(&self) -> Result<Vec<Seen>> {
        let (now, fewest) = (self.now, self.rules.shared_customers);
        let mut seen = Vec::new();
        if fewest == 0 {
            return Ok(seen);
        }
        // Fewer than two are one customer, who may buy as often as they like.
        let fewest = fewest.max(2);
        for site in &self.snapshot.sites {
            let times = (now.minus(DAY * SHARED_DAYS), now.minus(DAY));
            let payments = report::shared_payments(self.store, &site.id, times, fewest).await?;
            let least = usize::try_from(fewest).unwrap_or(usize::MAX);
            let Some(found) = shared(&payments, least) else { continue };
            let query = if site.is_first() { String::new() } else { format!("&site={}", site.key) };
            let path = format!("/conversions?search={}{query}", found.click_id);
            seen.push(Seen {
                subject: format!("{}:{}", AlertKind::SharedClickId, site.id),
                problem: Problem {
                    site: Some(site.key.clone()),
                    part: found.customers,
                    whole: found.click_ids,
                    ..blank(AlertKind::SharedClickId, &site.name, now, &path)
                },
                newest_at: now,
                stakes: Scope::Known(Box::new(found.stakes)),
            });
        }
        Ok(seen)
    }
}

/// Days within which payments with one click ID belong together. The alert ends when none came for
/// a day.
const SHARED_DAYS: u32 = 30;

/// The longest gap of an ordinary day, because shops are quiet at night. `None` if too little is known.
fn usual_gap(quarters: &[i64]) -> Option<Duration> {
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

pub(super) fn blank(what: AlertKind, name: &str, since: Timestamp, path: &str) -> Problem {
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

pub(super) fn about_destination(
    snapshot: &Snapshot,
    destination: &Destination,
    what: AlertKind,
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

/// A destination's error, without our secrets, email addresses, and the URL it redirects to.
pub(super) fn harmless(destination: &Destination, said: &str) -> String {
    if said.starts_with(destination::MOVED) {
        return format!("{}another address", destination::MOVED);
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
