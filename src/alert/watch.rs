//! Compares current problems with the open incidents. Takes reports, the rules and open incidents; raises, repeats and
//! resolves incidents, and stores their messages, each in one transaction. A problem is reported once, repeated at
//! intervals while it lasts, and reported as resolved; one that comes and goes is not reported again and again.

use std::time::Duration;

use anyhow::Result;
use jiff::tz::TimeZone;

use super::choices::{Alerts, Choices, Target};
use super::detect::{HOUR, Scope, Seen, WEEK, about_destination, blank, harmless, see};
use super::table::{self, Incident, NewMessage};
use super::words::{Alert, Problem, counts_news};
use crate::clock::Timestamp;
use crate::domain::{AlertKind, AlertPhase, Word as _};
use crate::failpoint;
use crate::ids;
use crate::report::{self, Stakes};
use crate::settings::{Site, Snapshot};

/// How long a problem must be gone before its incident is resolved, so that one that comes and goes is reported once.
const CALM: Duration = Duration::from_secs(120);
/// How long resolved incidents are kept.
const KEPT: Duration = Duration::from_secs(90 * 24 * 3600);

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
        let alert = self.alert(&id, AlertPhase::Raised, &zone, &found.problem, &stakes);
        incident.headline = alert.headline();
        let mut tx = self.alerts.store.begin().await?;
        table::forget(&mut tx, self.now.minus(KEPT)).await?;
        if table::raise(&mut tx, &incident, found.problem.what.as_str()).await? {
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
        let is_time = if counts_news(found.problem.what) {
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
        let alert = self.alert(&incident.id, AlertPhase::Reminder, &zone, &found.problem, &stakes);
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
            let alert = self.alert(&incident.id, AlertPhase::Resolved, &zone, &problem, &stakes);
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
        let what = AlertKind::parse(word)?;
        let destination = self.snapshot.destination(about);
        let mut problem = match (what, destination) {
            (
                AlertKind::Held
                | AlertKind::GivenUp
                | AlertKind::Slow
                | AlertKind::Expiring
                | AlertKind::Failing,
                None,
            ) => {
                return None;
            }
            (_, Some(found)) => about_destination(self.snapshot, found, what, incident.raised_at),
            (AlertKind::Unmatched, None) => {
                let site = self.snapshot.site(about)?;
                blank(what, &site.name, incident.raised_at, "/leaks")
            }
            (AlertKind::SharedClickId, None) => {
                let site = self.snapshot.site(about)?;
                blank(what, &site.name, incident.raised_at, "/conversions")
            }
            (AlertKind::Silent, None) => {
                let source = self.snapshot.source(about)?;
                blank(what, &source.key, incident.raised_at, "/settings/sources")
            }
            (AlertKind::EventsFailed, None) => blank(what, "", incident.raised_at, "/events"),
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
        site.map_or(TimeZone::UTC, Site::zone)
    }

    fn alert<'a>(
        &'a self,
        incident_id: &'a str,
        phase: AlertPhase,
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
            phase: alert.phase.as_str(),
            headline: &alert.headline(),
            body: &alert.body(target.kind),
        };
        table::enqueue(tx, self.now, &message).await
    }
}

fn is_news(incident: &Incident) -> bool {
    let word = incident.subject.split(':').next().unwrap_or_default();
    AlertKind::parse(word).is_some_and(counts_news)
}
