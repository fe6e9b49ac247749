//! A bounded number of places: for connections, and for the bytes of large bodies. Takes a network and a size; returns a place, when there is one.
//! When all are taken, the holder that has waited longest for its client must leave. So silent clients never keep out one that speaks,
//! and one network cannot hold more than its share.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::network;
use crate::clock::Clock;

/// How many places there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// All of them.
    pub(crate) total: usize,
    /// Of one network. A /56 may hold twice as many.
    pub(crate) share: usize,
    /// A holder whose client did nothing for that long must leave when its place is wanted.
    pub(crate) patience: Duration,
}

/// The places. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Places(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    rules: Rules,
    began: Instant,
    taken: Mutex<Taken>,
    /// Notified when a place becomes free.
    freed: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    units: usize,
    last_id: u64,
    holders: HashMap<u64, Arc<Holder>>,
    by_network: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Holder {
    units: usize,
    networks: Vec<IpAddr>,
    /// When its client did something last, in milliseconds since `Shared::began`.
    active_ms: AtomicU64,
    /// True while we work and the client waits.
    is_busy: AtomicBool,
    must_leave: AtomicBool,
    leave: Notify,
}

/// A place; dropped, it is free again.
#[derive(Debug)]
pub(crate) struct Place {
    shared: Arc<Shared>,
    id: u64,
    holder: Arc<Holder>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Full {
    /// All are taken.
    All,
    /// The share of this network is taken.
    Share(IpAddr),
}

impl Places {
    pub(crate) fn new(rules: Rules) -> Self {
        Self(Arc::new(Shared {
            rules,
            began: Clock::stopwatch(),
            taken: Mutex::default(),
            freed: Notify::new(),
        }))
    }

    /// Waits until a unit is free. Meanwhile those leave that wait longest for their clients.
    pub(crate) async fn room(&self) {
        loop {
            let freed = self.0.freed.notified();
            {
                let mut taken = self.0.taken();
                if taken.units < self.0.rules.total {
                    return;
                }
                self.0.displace(&mut taken, Full::All);
            }
            tokio::select! {
                () = freed => {}
                () = tokio::time::sleep(self.0.rules.patience) => {}
            }
        }
    }

    /// A place at once. `None` when this network has its share and each of its holders is busy.
    pub(crate) fn enter_at_once(&self, address: Option<IpAddr>, units: usize) -> Option<Place> {
        let mut taken = self.0.taken();
        match self.0.fits(&taken, address, units) {
            Err(full @ Full::Share(_)) if !self.0.displace(&mut taken, full) => None,
            // The one that leaves is still counted for a moment.
            Ok(()) | Err(_) => Some(self.enter_anyway(&mut taken, address, units)),
        }
    }

    /// A place, as soon as there is one.
    pub(crate) async fn enter(&self, address: Option<IpAddr>, units: usize) -> Place {
        loop {
            let freed = self.0.freed.notified();
            {
                let mut taken = self.0.taken();
                match self.0.fits(&taken, address, units) {
                    Ok(()) => return self.enter_anyway(&mut taken, address, units),
                    Err(full) => self.0.displace(&mut taken, full),
                };
            }
            tokio::select! {
                () = freed => {}
                () = tokio::time::sleep(self.0.rules.patience) => {}
            }
        }
    }

    fn enter_anyway(&self, taken: &mut Taken, address: Option<IpAddr>, units: usize) -> Place {
        let networks = address.map(counted_for).unwrap_or_default();
        taken.units += units;
        for network in &networks {
            *taken.by_network.entry(*network).or_default() += units;
        }
        taken.last_id += 1;
        let holder = Arc::new(Holder {
            units,
            networks,
            active_ms: AtomicU64::new(self.0.now_ms()),
            is_busy: AtomicBool::new(false),
            must_leave: AtomicBool::new(false),
            leave: Notify::new(),
        });
        taken.holders.insert(taken.last_id, holder.clone());
        Place { shared: self.0.clone(), id: taken.last_id, holder }
    }
}

impl Shared {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn fits(&self, taken: &Taken, address: Option<IpAddr>, units: usize) -> Result<(), Full> {
        let networks = address.map(counted_for).unwrap_or_default();
        for (at, network) in networks.iter().enumerate() {
            let held = taken.by_network.get(network).copied().unwrap_or(0);
            // The first is the narrow one.
            let share = if at == 0 { self.rules.share } else { self.rules.share * 2 };
            // A network that holds nothing may have one place, however large.
            if held > 0 && held + units > share {
                return Err(Full::Share(*network));
            }
        }
        if taken.units > 0 && taken.units + units > self.rules.total {
            return Err(Full::All);
        }
        Ok(())
    }

    /// Asks the holder to leave that waits longest for its client; true when one was asked, or is about to leave.
    fn displace(&self, taken: &mut Taken, full: Full) -> bool {
        let now = self.now_ms();
        let patience = u64::try_from(self.rules.patience.as_millis()).unwrap_or(u64::MAX);
        let concerned = taken.holders.values().filter(|holder| match full {
            Full::All => true,
            Full::Share(network) => holder.networks.contains(&network),
        });
        let mut longest: Option<(u64, &Arc<Holder>)> = None;
        for holder in concerned {
            if holder.must_leave.load(Ordering::Relaxed) {
                return true;
            }
            let active = holder.active_ms.load(Ordering::Relaxed);
            let is_idle =
                !holder.is_busy.load(Ordering::Relaxed) && now.saturating_sub(active) >= patience;
            if is_idle && longest.is_none_or(|(since, _)| active < since) {
                longest = Some((active, holder));
            }
        }
        if let Some((_, holder)) = longest {
            holder.must_leave.store(true, Ordering::Relaxed);
            holder.leave.notify_one();
        }
        longest.is_some()
    }
}

/// The networks that a holder counts for. Behind a private address there may be a proxy with everybody behind it.
fn counted_for(address: IpAddr) -> Vec<IpAddr> {
    if network::is_private(address.to_canonical()) {
        return Vec::new();
    }
    let networks = network::of(address);
    std::iter::once(networks.narrow).chain(networks.wide).collect()
}

impl Place {
    /// Its client did something.
    pub(crate) fn client_acted(&self) {
        self.holder.active_ms.store(self.shared.now_ms(), Ordering::Relaxed);
    }

    /// Says whether we work and the client waits. Nobody has to leave while we work.
    pub(crate) fn set_busy(&self, is_busy: bool) {
        self.client_acted();
        self.holder.is_busy.store(is_busy, Ordering::Relaxed);
    }

    /// How long its client has done nothing; zero while we work.
    pub(crate) fn idle_for(&self) -> Duration {
        if self.holder.is_busy.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        let active = self.holder.active_ms.load(Ordering::Relaxed);
        Duration::from_millis(self.shared.now_ms().saturating_sub(active))
    }

    /// Resolves when somebody else needs the place.
    pub(crate) async fn must_leave(&self) {
        self.holder.leave.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.shared.taken();
        taken.holders.remove(&self.id);
        taken.units -= self.holder.units;
        for network in &self.holder.networks {
            if let Some(held) = taken.by_network.get_mut(network) {
                *held -= self.holder.units;
                if *held == 0 {
                    taken.by_network.remove(network);
                }
            }
        }
        drop(taken);
        self.shared.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(5);

    fn places(total: usize, share: usize) -> Places {
        Places::new(Rules { total, share, patience: SHORT })
    }

    fn address(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([203, 0, 113, last]))
    }

    async fn is_asked(place: &Place) -> bool {
        tokio::time::timeout(Duration::from_secs(5), place.must_leave()).await.is_ok()
    }

    #[tokio::test]
    async fn the_one_that_waits_longest_leaves_when_all_are_taken() {
        let places = places(2, 2);
        let silent = places.enter_at_once(address(1), 1).unwrap();
        let busy = places.enter_at_once(address(2), 1).unwrap();
        busy.set_busy(true);
        let wanted = places.enter(address(3), 1);
        let leaves = async {
            assert!(is_asked(&silent).await);
            drop(silent);
        };
        let (entered, ()) = tokio::join!(wanted, leaves);
        assert!(!busy.holder.must_leave.load(Ordering::Relaxed));
        drop((entered, busy));
        assert_eq!(places.0.taken().units, 0);
        assert!(places.0.taken().by_network.is_empty());
    }

    #[tokio::test]
    async fn nobody_leaves_who_is_served_or_has_just_spoken() {
        let places = Places::new(Rules { total: 1, share: 1, patience: Duration::from_secs(60) });
        let place = places.enter_at_once(address(1), 1).unwrap();
        let waited = tokio::time::timeout(SHORT * 10, places.room()).await;
        assert!(waited.is_err() && !place.holder.must_leave.load(Ordering::Relaxed));
        drop(place);
        places.room().await;
    }

    #[tokio::test]
    async fn a_network_has_its_share_and_no_more() {
        let places = places(10, 2);
        let held: Vec<_> = (0..2).map(|_| places.enter_at_once(address(1), 1).unwrap()).collect();
        held.iter().for_each(|place| place.set_busy(true));
        assert!(places.enter_at_once(address(1), 1).is_none(), "it has its share, all busy");
        assert!(places.enter_at_once(address(2), 1).is_some(), "another one has not");
        held[1].set_busy(false);
        tokio::time::sleep(SHORT * 2).await;
        assert!(places.enter_at_once(address(1), 1).is_some(), "its silent one leaves");
        assert!(is_asked(&held[1]).await);
    }

    #[tokio::test]
    async fn a_56_has_twice_the_share_of_a_64_and_a_proxy_has_all() {
        let places = places(100, 2);
        let from = |text: &str| {
            let place = places.enter_at_once(Some(text.parse().unwrap()), 1);
            place.inspect(|place| place.set_busy(true))
        };
        let rows = [1, 1, 2, 2, 3].map(|n| from(&format!("2001:db8:0:{n}::1")));
        assert_eq!(rows.iter().flatten().count(), 4);
        assert_eq!((0..50).filter_map(|_| from("127.0.0.1")).collect::<Vec<_>>().len(), 50);
    }

    #[tokio::test]
    async fn whoever_is_alone_may_be_larger_than_all_places() {
        let places = places(10, 2);
        let large = places.enter(address(1), 50).await;
        drop(large);
        assert_eq!(places.0.taken().units, 0);
    }
}
