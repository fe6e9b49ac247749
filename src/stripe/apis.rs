//! The clients of Stripe's API, one for each key. Each source uses the key of its account.
//! Takes a source; returns the client of its key, or of that of `main`.
//! Guarantees one client per key, so that all sources with the same key share its rate limit.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use url::Url;

use super::api::{Api, ApiError};
use crate::clock::Clock;
use crate::config::Secret;
use crate::settings::{Snapshot, Source};

/// The clients of all keys. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Apis(Arc<Keys>);

impl Apis {
    pub(crate) fn new(main: Option<Secret>, base: Url, clock: Clock) -> Self {
        Self(Arc::new(Keys { main, base, clock, clients: Default::default() }))
    }

    /// The source's own key, and its name in error texts.
    fn own_key<'a>(&'a self, source: &'a Source) -> Option<(&'a Secret, String)> {
        match &self.0.main {
            Some(key) if source.key == "main" => {
                Some((key, "the key in CLICKSTAMP_STRIPE_API_KEY".to_owned()))
            }
            _ => {
                let name = || format!("the API key of the webhook “{}”", source.key);
                source.api_key.as_ref().map(|key| (key, name()))
            }
        }
    }

    /// The key that a source uses: its own, else that of `main`.
    fn key_of<'a>(
        &'a self,
        settings: &'a Snapshot,
        source: &'a Source,
    ) -> Option<(&'a Secret, String)> {
        self.own_key(source).or_else(|| self.own_key(settings.stripe_source("main")?))
    }

    /// Returns the client of a source.
    ///
    /// # Errors
    /// [`ApiError::NoKey`] if neither the source nor `main` has a key.
    pub(crate) fn of(&self, settings: &Snapshot, source: &Source) -> Result<Api, ApiError> {
        let (key, name) = self.key_of(settings, source).ok_or(ApiError::NoKey)?;
        let mut clients = self.0.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(key.expose()) {
            return Ok(client.clone());
        }
        let client = Api::new(key.clone(), name, self.0.base.clone(), self.0.clock.clone())
            .map_err(|error| ApiError::NoAnswer(format!("{error:#}")))?;
        clients.insert(key.expose().to_owned(), client.clone());
        Ok(client)
    }

    /// True if any source has a key.
    pub(crate) fn any(&self, settings: &Snapshot) -> bool {
        settings.stripe_sources().any(|source| self.own_key(source).is_some())
    }

    /// The sources that use the same key as this one: for Stripe they are the same account.
    pub(crate) fn sharing(&self, settings: &Snapshot, source: &Source) -> BTreeSet<String> {
        let key = |source| self.key_of(settings, source).map(|(key, _)| key.expose());
        let same = settings.stripe_sources().filter(|other| key(*other) == key(source));
        same.map(|source| source.id.clone()).collect()
    }

    /// Returns one source for each key.
    pub(crate) fn one_per_key<'a>(&self, settings: &'a Snapshot) -> Vec<&'a Source> {
        let mut seen = BTreeSet::new();
        let with_own = settings.stripe_sources().filter_map(|source| {
            let (key, _) = self.own_key(source)?;
            seen.insert(key.expose().to_owned()).then_some(source)
        });
        with_own.collect()
    }
}

#[derive(Debug)]
struct Keys {
    /// The key from the environment, which belongs to the source `main`.
    main: Option<Secret>,
    base: Url,
    clock: Clock,
    /// Clients by key, because Stripe's rate limit counts all requests with the same key.
    clients: Mutex<HashMap<String, Api>>,
}
