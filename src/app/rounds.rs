//! The work: one round of each kind, as loops, commands and tests ask for it.
//! In: the app. Out: how much was done.
//! Promise: a round ends by itself and can be repeated; where it broke off, the next one goes on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use super::App;
use crate::alert::Alerts;
use crate::conversion::{self, Ledger, Prune, Pruned};
use crate::custom;
use crate::delivery::{self, worker::Worker};
use crate::registration::Registrations;
use crate::settings;
use crate::stripe;
use crate::stripe::replay::{Replayed, Wanted as Replay};
use crate::visit;

impl App {
    /// Processes stored events of Stripe and of pages until none is due. Answers how many it ended.
    ///
    /// # Errors
    /// When the database does not answer; nothing is lost, the next call goes on.
    pub async fn process_events(&self) -> Result<usize> {
        let (of_stripe, of_pages) =
            (self.process_stripe_events().await, self.process_page_events().await);
        Ok(of_stripe? + of_pages?)
    }

    async fn process_stripe_events(&self) -> Result<usize> {
        let mut all = 0;
        loop {
            let snapshot = self.state.settings.current();
            let ended = stripe::worker::round(&self.state.store, self.ledger(&snapshot)).await;
            match self.waking_deliveries(ended)? {
                0 => return Ok(all),
                ended => all += ended,
            }
            if self.is_stopping() {
                return Ok(all);
            }
        }
    }

    async fn process_page_events(&self) -> Result<usize> {
        let (state, mut all) = (&self.state, 0);
        loop {
            let now = state.clock.now();
            let ended =
                custom::page::round(&state.store, &state.settings, &state.click_ids, now).await;
            match self.waking_deliveries(ended)? {
                0 => return Ok(all),
                ended => all += ended,
            }
            if self.is_stopping() {
                return Ok(all);
            }
        }
    }

    /// Writes the ledger anew from the raw events and compares it with the one that is here; corrects it if wanted.
    ///
    /// # Errors
    /// When the database does not answer, or events keep arriving meanwhile; nothing was changed then.
    pub async fn replay(&self, wanted: &Replay) -> Result<Replayed> {
        let snapshot = self.state.settings.current();
        let (store, ledger) = (&self.state.store, self.ledger(&snapshot));
        let replayed = stripe::replay::run(store, ledger, wanted, custom::replay).await?;
        if replayed.applied {
            self.process_events().await?;
            self.state.bells.delivery_owed.notify_one();
        }
        Ok(replayed)
    }

    /// Joins again what waited for a visit that has arrived; visits that nobody reported count once a payment names them. Answers how many conversions it looked at.
    ///
    /// # Errors
    /// As [`App::process_events`].
    pub async fn rejoin_late_visits(&self) -> Result<usize> {
        conversion::promote_named(&self.state.store).await?;
        let snapshot = self.state.settings.current();
        let rejoined = conversion::rejoin(&self.state.store, self.ledger(&snapshot)).await;
        self.waking_deliveries(rejoined)
    }

    /// Wakes the delivery worker after a batch, unless it changed nothing. After an error too: what was committed before it may have made
    /// deliveries due, and nobody else would say so.
    fn waking_deliveries(&self, done: Result<usize>) -> Result<usize> {
        if !matches!(done, Ok(0)) {
            self.state.bells.delivery_owed.notify_one();
        }
        done
    }

    /// Writes the landings whose page did not report them in time. Answers how many.
    ///
    /// # Errors
    /// When the database does not answer; the landings taken so far are lost then.
    pub async fn keep_landings(&self) -> Result<usize> {
        let (state, settings) = (&self.state, self.state.settings.current());
        let now = state.clock.now();
        let kept = self.landings.write_due(&state.store, &state.click_ids, &settings, now).await?;
        if kept > 0 {
            state.bells.visit_recorded.notify_one();
        }
        Ok(kept)
    }

    /// Writes all landings there are, also those whose page may still report them: before the end.
    pub(super) async fn keep_last_landings(&self) -> Result<()> {
        let (state, settings) = (&self.state, self.state.settings.current());
        let now = state.clock.now();
        self.landings.write(&state.store, &state.click_ids, &settings, now).await.map(drop)
    }

    /// Forgets landings that no report and no payment named within seven days. Answers how many.
    ///
    /// # Errors
    /// When the database does not answer; nothing was forgotten then.
    pub async fn forget_landings(&self) -> Result<u64> {
        conversion::forget_unnamed(&self.state.store, self.state.clock.now()).await
    }

    /// Lets visits that led to no conversion go when they are older than the configuration keeps them, or only says which those are; by
    /// the site's key. Nothing when they are kept.
    ///
    /// # Errors
    /// When the database does not answer; what went so far is gone.
    pub async fn prune(&self, wanted: Prune) -> Result<BTreeMap<String, Pruned>> {
        let (state, snapshot) = (&self.state, self.state.settings.current());
        let Some(days) = state.config.retention_days else { return Ok(BTreeMap::new()) };
        let until = state.clock.now().minus(Duration::from_secs(u64::from(days) * 86_400));
        let pruned = conversion::prune(&state.store, until, wanted).await?;
        let key = |id: String| snapshot.site(&id).map_or(id, |site| site.key.clone());
        Ok(pruned.into_iter().map(|(id, pruned)| (key(id), pruned)).collect())
    }

    /// The same once a day, by one copy of the program. True when this one did it.
    ///
    /// # Errors
    /// As [`App::prune`]; the next day does the rest.
    pub async fn prune_daily(&self) -> Result<bool> {
        let state = &self.state;
        if state.config.retention_days.is_none()
            || !settings::claim_day(&state.store, "pruned_day", state.clock.now()).await?
        {
            return Ok(false);
        }
        for (site, pruned) in self.prune(Prune::Delete).await? {
            tracing::info!(
                site,
                visits = pruned.visits,
                "deleted old visits that led to no conversion"
            );
        }
        Ok(true)
    }

    /// Folds what visits were counted into the sums that reports read. Answers how many counters went.
    ///
    /// # Errors
    /// When the database does not answer; what was folded so far stays so.
    pub async fn fold_counts(&self) -> Result<usize> {
        let (state, mut folded) = (&self.state, 0);
        for site in &self.state.settings.current().sites {
            folded += visit::fold(&state.store, (&site.id, site.number), state.clock.now()).await?;
        }
        Ok(folded)
    }

    /// Sums the conversions of days that are over, which reports read. Answers how many stretches.
    ///
    /// # Errors
    /// When the database does not answer; what was summed so far stays so.
    pub async fn sum_days(&self) -> Result<usize> {
        let (state, mut summed) = (&self.state, 0);
        for site in &self.state.settings.current().sites {
            summed += conversion::sum_days(&state.store, site, state.clock.now()).await?;
        }
        Ok(summed)
    }

    /// Makes the messages of destinations that have a mapping. Answers how many.
    ///
    /// # Errors
    /// As [`App::process_events`].
    pub async fn make_messages(&self) -> Result<usize> {
        let (state, mut all) = (&self.state, 0);
        loop {
            let made = delivery::make_messages(&state.store, &state.settings, &state.clock).await?;
            if made == 0 {
                return Ok(all);
            }
            state.bells.delivery_owed.notify_one();
            all += made;
        }
    }

    /// Sends deliveries until none is due now. Answers how many attempts it made. For tests; the server's own loop keeps its pace.
    ///
    /// # Errors
    /// As [`App::process_events`].
    pub async fn deliver_due(&self) -> Result<usize> {
        self.make_messages().await?;
        let mut shift = Worker { rate: 0, ..self.worker.clone() }.shift();
        let mut all = 0;
        loop {
            all += shift.turn().await?;
            if shift.is_busy() {
                shift.attempt_ended().await;
            } else if !shift.rest().is_zero() {
                return Ok(all);
            }
        }
    }

    /// Tells AnyTrack of visits where its destination asks for it (experimental). Answers how many tries it made.
    ///
    /// # Errors
    /// As [`App::process_events`].
    pub async fn register_visits(&self) -> Result<usize> {
        let state = &self.state;
        let registrations = Registrations {
            store: state.store.clone(),
            settings: state.settings.clone(),
            clock: state.clock.clone(),
            keys: state.click_ids.clone(),
            sender: self.worker.sender.clone(),
        };
        registrations.round().await
    }

    /// Looks what is wrong, and tells whoever is to be told. Answers how many messages went out.
    ///
    /// # Errors
    /// As [`App::process_events`].
    pub async fn tell_of_trouble(&self) -> Result<usize> {
        let state = &self.state;
        let base = state.config.public_url.as_ref().map(|url| url.as_str().trim_end_matches('/'));
        let alerts = Alerts {
            store: state.store.clone(),
            settings: state.settings.clone(),
            clock: state.clock.clone(),
            sender: self.worker.sender.clone(),
            base: base.map(str::to_owned),
        };
        alerts.round().await
    }

    /// Writes the counts of rejected webhooks.
    ///
    /// # Errors
    /// As [`App::process_events`].
    pub async fn flush_counts(&self) -> Result<()> {
        self.rejections.flush(&self.state.store).await
    }

    fn ledger<'a>(&'a self, snapshot: &'a Arc<settings::Snapshot>) -> Ledger<'a> {
        Ledger {
            keys: &self.state.click_ids,
            settings: snapshot,
            later: Some(&self.state.settings),
            now: self.state.clock.now(),
        }
    }
}
