//! What Stripe itself is asked: for events that never arrived, for what an event only names, for its books.
//! In: a source with a key of Stripe's API. Out: events in the ledger, or what differs.
//! Promise: whatever came before Stripe stopped to answer is kept and processed.

use anyhow::{Result, anyhow};
use jiff::tz::TimeZone;

use super::App;
use crate::settings;
use crate::stripe;
use crate::stripe::backfill::{Backfilled, Wanted as Backfill};
use crate::stripe::reconcile::{Reconciled, Wanted as Reconcile};

impl App {
    /// Fetches what thin events name, until none is due. Answers how many it ended.
    ///
    /// # Errors
    /// As [`App::process_events`].
    pub async fn fetch_thin_events(&self) -> Result<u64> {
        let snapshot = self.state.settings.current();
        let (store, apis, mut all) = (&self.state.store, &self.apis, 0);
        loop {
            let ended = stripe::thin::round(store, apis, &snapshot, &self.state.clock).await?;
            if ended == 0 {
                return Ok(all);
            }
            self.state.bells.event_stored.notify_one();
            all += ended;
            if self.is_stopping() {
                return Ok(all);
            }
        }
    }

    /// Asks Stripe for the checkouts of payments that came without one, until none is due. Answers how many it asked about.
    ///
    /// # Errors
    /// As [`App::process_events`].
    pub async fn look_up_checkouts(&self) -> Result<u64> {
        let snapshot = self.state.settings.current();
        let (store, mut all) = (&self.state.store, 0);
        loop {
            let asked =
                stripe::lookup::round(store, &self.apis, &snapshot, &self.state.clock).await?;
            if asked == 0 {
                return Ok(all);
            }
            self.state.bells.event_stored.notify_one();
            all += asked;
            if self.is_stopping() {
                return Ok(all);
            }
        }
    }

    /// Asks Stripe for what we missed, and processes it.
    ///
    /// # Errors
    /// An [`stripe::ApiError`] when Stripe gives no answer that helps; a sentence when there is no such source.
    pub async fn backfill(&self, wanted: &Backfill) -> Result<Backfilled> {
        let (state, snapshot) = (&self.state, self.state.settings.current());
        let source = self.source(&snapshot, &wanted.source)?;
        let api = self.apis.of(&snapshot, source)?;
        let done = stripe::backfill::run(&state.store, &api, &state.clock, source, wanted).await;
        // Also what came before Stripe stopped to answer.
        self.process_events().await?;
        done
    }

    /// Compares the ledger with Stripe's own books, and fetches what is missing if wanted.
    ///
    /// # Errors
    /// As [`App::backfill`].
    pub async fn reconcile(&self, wanted: &Reconcile) -> Result<Reconciled> {
        let (state, snapshot) = (&self.state, self.state.settings.current());
        let source = self.source(&snapshot, &wanted.source)?;
        let books = self.books(&snapshot, source)?;
        let store = &state.store;
        let mut found = stripe::reconcile::run(store, &books, wanted).await?;
        if wanted.repair && found.repaired > 0 {
            self.process_events().await?;
            let repaired = found.repaired;
            let again = Reconcile { repair: false, ..wanted.clone() };
            found = stripe::reconcile::run(store, &books, &again).await?;
            found.repaired = repaired;
        }
        if wanted.from.is_none() && wanted.until.is_none() && wanted.account.is_empty() {
            stripe::reconcile::keep(store, &books, Ok(found.clone())).await?;
        }
        Ok(found)
    }

    /// The daily comparison with Stripe's books, when it is due. True when it was done.
    ///
    /// # Errors
    /// When the database does not answer; that Stripe does not is kept as the result.
    pub async fn reconcile_daily(&self) -> Result<bool> {
        let snapshot = self.state.settings.current();
        let mut any = false;
        for source in self.apis.one_per_key(&snapshot) {
            let books = self.books(&snapshot, source)?;
            any |= stripe::reconcile::daily(&self.state.store, &books).await?;
        }
        Ok(any)
    }

    /// What a comparison with the books of a source's account goes by.
    fn books<'a>(
        &'a self,
        snapshot: &settings::Snapshot,
        source: &'a settings::Source,
    ) -> Result<stripe::reconcile::Books<'a>> {
        Ok(stripe::reconcile::Books {
            api: self.apis.of(snapshot, source)?,
            sources: self.apis.sharing(snapshot, source),
            source,
            clock: &self.state.clock,
            zone: zone_of(snapshot, source),
        })
    }

    fn source<'a>(
        &self,
        snapshot: &'a settings::Snapshot,
        key: &str,
    ) -> Result<&'a settings::Source> {
        snapshot.stripe_source(key).ok_or_else(|| {
            let known: Vec<&str> =
                snapshot.stripe_sources().map(|source| source.key.as_str()).collect();
            anyhow!("there is no Stripe source “{key}”; there is: {}", known.join(", "))
        })
    }
}

/// The time zone of a source's site.
fn zone_of(snapshot: &settings::Snapshot, source: &settings::Source) -> TimeZone {
    let site = snapshot.site(&source.site_id);
    site.and_then(|site| TimeZone::get(&site.timezone).ok()).unwrap_or(TimeZone::UTC)
}
