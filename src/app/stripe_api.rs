//! Requests to Stripe's API: for missed events, for the objects of thin events, for missing
//! checkouts, and for a comparison of records.
//! Takes a source with an API key; stores events, or returns differences.
//! Guarantees that everything received before a request failed is kept and processed.

use anyhow::{Result, anyhow};
use jiff::tz::TimeZone;

use super::App;
use crate::settings;
use crate::stripe;
use crate::stripe::backfill::{Backfilled, Wanted as Backfill};
use crate::stripe::reconcile::{Reconciled, Wanted as Reconcile};

impl App {
    /// Fetches the objects of thin events until none is due. Returns the number of events handled.
    pub async fn fetch_thin_events(&self) -> Result<u64> {
        let (state, snapshot) = (&self.state, self.state.settings.current());
        let batch = || stripe::thin::round(&state.store, &self.apis, &snapshot, &state.clock);
        self.until_done(|| self.waking_events(batch())).await
    }

    /// Asks Stripe for the checkouts of payments that arrived without one, until none is due.
    /// Returns the number of requests.
    pub async fn look_up_checkouts(&self) -> Result<u64> {
        let (state, snapshot) = (&self.state, self.state.settings.current());
        let batch = || stripe::lookup::round(&state.store, &self.apis, &snapshot, &state.clock);
        self.until_done(|| self.waking_events(batch())).await
    }

    /// Wakes the worker of events after a batch that stored some.
    async fn waking_events(&self, batch: impl Future<Output = Result<u64>>) -> Result<u64> {
        let done = batch.await?;
        if done > 0 {
            self.state.wakeups.event_stored.notify_one();
        }
        Ok(done)
    }

    /// Fetches missed events from Stripe and processes them.
    ///
    /// # Errors
    /// An [`stripe::ApiError`] if a request fails, or a sentence if there is no such source.
    pub async fn backfill(&self, wanted: &Backfill) -> Result<Backfilled> {
        let (state, snapshot) = (&self.state, self.state.settings.current());
        let source = self.source(&snapshot, &wanted.source)?;
        let api = self.apis.of(&snapshot, source)?;
        let (store, clock) = (&state.store, &state.clock);
        let reader = stripe::backfill::Reader { store, api: &api, clock, source };
        let done = reader.run(wanted).await;
        // Also process what arrived before a request failed.
        self.process_events().await?;
        done
    }

    /// Compares the ledger with Stripe's records, and fetches what is missing if asked to.
    pub async fn reconcile(&self, wanted: &Reconcile) -> Result<Reconciled> {
        let (state, snapshot) = (&self.state, self.state.settings.current());
        let source = self.source(&snapshot, &wanted.source)?;
        let comparing = self.comparing(&snapshot, source)?;
        let store = &state.store;
        let mut found = stripe::reconcile::run(store, &comparing, wanted).await?;
        if wanted.repair && found.repaired > 0 {
            self.process_events().await?;
            let repaired = found.repaired;
            let again = Reconcile { repair: false, ..wanted.clone() };
            found = stripe::reconcile::run(store, &comparing, &again).await?;
            found.repaired = repaired;
        }
        if wanted.from.is_none() && wanted.until.is_none() && wanted.account.is_empty() {
            stripe::reconcile::keep(store, &comparing, Ok(found.clone())).await?;
        }
        Ok(found)
    }

    /// Runs the daily comparison with Stripe's records if it is due. Returns true if it ran.
    ///
    /// # Errors
    /// Fails if the database does not respond; a failed request to Stripe is stored as the result.
    pub async fn reconcile_daily(&self) -> Result<bool> {
        let snapshot = self.state.settings.current();
        let mut any = false;
        for source in self.apis.one_per_key(&snapshot) {
            let comparing = self.comparing(&snapshot, source)?;
            any |= stripe::reconcile::daily(&self.state.store, &comparing).await?;
        }
        Ok(any)
    }

    /// The parameters of a comparison for a source's account.
    fn comparing<'a>(
        &'a self,
        snapshot: &settings::Snapshot,
        source: &'a settings::Source,
    ) -> Result<stripe::reconcile::Comparing<'a>> {
        Ok(stripe::reconcile::Comparing {
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
    site.map_or(TimeZone::UTC, settings::Site::zone)
}
