//! Rate limits of signing in. Takes an IP address, an email and the browser's device cookie. Returns whether this attempt
//! is allowed, or how long to wait. Guarantees that guessing stays slow, that nobody can lock out a known browser, that a
//! rejected attempt changes nothing, and that memory and time per attempt are bounded.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::turns::{Network, Turns};
use crate::clock::Timestamp;
use crate::ids;

/// Window of the counts, from the first attempt.
pub(super) const WINDOW: Duration = Duration::from_secs(15 * 60);
/// Attempts per IP address and email. People mistype three or four times; guessing needs thousands.
const PAIR_TRIES: u32 = 10;
/// Attempts per network, for all emails together, because an office signs in from one address.
const NETWORK_TRIES: u32 = 30;
/// Attempts per IPv6 /56, which a provider may assign to one customer.
const WIDE_TRIES: u32 = 60;
/// Attempts per email from all networks together. High, because anyone can use them up; a known browser has its own count.
pub(super) const EMAIL_TRIES: u32 = 100;
/// Keys per table, about 100 bytes each. Only allowed attempts add one, and each of those costs a password check.
const KEYS: usize = 10_000;

/// Counts attempts in memory. Those of users are also counted in the database, for restarts and other processes. Clones
/// share the counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct LoginLimit {
    tables: Arc<Mutex<Tables>>,
    /// The order in which passwords are checked.
    pub(super) turns: Turns,
}

/// One table per kind of key, so that a flood of one kind evicts no key of another.
#[derive(Debug, Default)]
struct Tables {
    networks: Counts<Network>,
    pairs: Counts<(Network, String)>,
    emails: Counts<String>,
    devices: Counts<String>,
}

/// Who attempts to sign in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    network: Network,
    wide: Network,
    /// Hashed, so that a long text needs no more memory than a short one.
    email: String,
    /// The device cookie's number, if it was signed for this email.
    device: Option<String>,
}

impl Caller {
    pub(super) fn new(address: IpAddr, email: &str, device: Option<String>) -> Self {
        let email = ids::sha256_hex(email.as_bytes());
        Self { network: Network::of(address), wide: Network::wide(address), email, device }
    }

    pub(super) fn network(&self) -> Network {
        self.network
    }

    /// Whether this browser was signed in with this email before.
    pub(super) fn is_known(&self) -> bool {
        self.device.is_some()
    }
}

impl LoginLimit {
    /// Counts an attempt, or returns how long to wait.
    pub(super) fn begin(&self, now: Timestamp, caller: &Caller) -> Result<(), Duration> {
        let mut tables = self.tables();
        let wait = tables.wait(now, caller);
        if !wait.is_zero() {
            return Err(wait);
        }
        tables.each(caller, |counts| counts.count(now));
        Ok(())
    }

    /// Undoes the count of an attempt whose password was not checked.
    pub(super) fn undo(&self, now: Timestamp, caller: &Caller) {
        self.tables().each(caller, |counts| counts.take_back(now));
    }

    /// A correct password resets the counts of its network and browser. That of the email stays, because it includes
    /// attempts of others.
    pub(super) fn forgive(&self, now: Timestamp, caller: &Caller) {
        let mut tables = self.tables();
        tables.emails.at(&caller.email).take_back(now);
        tables.networks.forget(&caller.network);
        tables.networks.forget(&caller.wide);
        tables.pairs.forget(&(caller.network, caller.email.clone()));
        if let Some(device) = &caller.device {
            tables.devices.forget(device);
        }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    /// The longest wait of all counts.
    fn wait(&mut self, now: Timestamp, caller: &Caller) -> Duration {
        if let Some(device) = &caller.device {
            return self.devices.wait(now, device, PAIR_TRIES);
        }
        let wide_tries = if caller.wide == caller.network { NETWORK_TRIES } else { WIDE_TRIES };
        let pair = (caller.network, caller.email.clone());
        [
            self.networks.wait(now, &caller.network, NETWORK_TRIES),
            self.networks.wait(now, &caller.wide, wide_tries),
            self.pairs.wait(now, &pair, PAIR_TRIES),
            self.emails.wait(now, &caller.email, EMAIL_TRIES),
        ]
        .into_iter()
        .max()
        .unwrap_or_default()
    }

    /// Applies a function to every count of a caller. A known browser has a separate count.
    fn each(&mut self, caller: &Caller, change: impl Fn(&mut dyn Counter)) {
        if let Some(device) = &caller.device {
            change(&mut self.devices.at(device));
            return;
        }
        change(&mut self.networks.at(&caller.network));
        if caller.wide != caller.network {
            change(&mut self.networks.at(&caller.wide));
        }
        change(&mut self.pairs.at(&(caller.network, caller.email.clone())));
        change(&mut self.emails.at(&caller.email));
    }
}

/// Counts per key, at most `KEYS` of them; then the oldest is dropped.
#[derive(Debug)]
struct Counts<K> {
    tries: HashMap<K, Tries>,
    /// Keys in the order in which their windows began. `since` identifies entries that are outdated.
    order: VecDeque<(K, Timestamp)>,
}

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self { tries: HashMap::new(), order: VecDeque::new() }
    }
}

#[derive(Clone, Copy, Debug)]
struct Tries {
    since: Timestamp,
    count: u32,
}

impl Tries {
    /// A window in the future was started by a clock that was ahead.
    fn is_over(&self, now: Timestamp) -> bool {
        now.since(self.since) >= WINDOW || self.since > now
    }
}

/// The count of one key of any kind.
trait Counter {
    fn count(&mut self, now: Timestamp);
    fn take_back(&mut self, now: Timestamp);
}

struct At<'a, K>(&'a mut Counts<K>, &'a K);

impl<K: Clone + Eq + Hash> Counter for At<'_, K> {
    fn count(&mut self, now: Timestamp) {
        let Self(counts, key) = self;
        if let Some(tries) = counts.tries.get_mut(*key).filter(|tries| !tries.is_over(now)) {
            tries.count = tries.count.saturating_add(1);
            return;
        }
        counts.make_room(now);
        counts.tries.insert((*key).clone(), Tries { since: now, count: 1 });
        counts.order.push_back(((*key).clone(), now));
    }

    fn take_back(&mut self, now: Timestamp) {
        if let Some(tries) = self.0.tries.get_mut(self.1).filter(|tries| !tries.is_over(now)) {
            tries.count = tries.count.saturating_sub(1);
        }
    }
}

impl<K: Clone + Eq + Hash> Counts<K> {
    fn at<'a>(&'a mut self, key: &'a K) -> At<'a, K> {
        At(self, key)
    }

    fn wait(&self, now: Timestamp, key: &K, most: u32) -> Duration {
        match self.tries.get(key) {
            Some(tries) if !tries.is_over(now) && tries.count >= most => {
                WINDOW.saturating_sub(now.since(tries.since))
            }
            _ => Duration::ZERO,
        }
    }

    fn forget(&mut self, key: &K) {
        self.tries.remove(key);
    }

    /// Removes expired or outdated entries, at most two per new key, and the oldest one if the table is full.
    fn make_room(&mut self, now: Timestamp) {
        let mut looked = 0;
        while looked < 2 || self.tries.len() >= KEYS || self.order.len() >= 2 * KEYS {
            looked += 1;
            let Some((key, since)) = self.order.front() else { break };
            let live = self.tries.get(key).filter(|tries| tries.since == *since);
            let is_full = self.tries.len() >= KEYS || self.order.len() >= 2 * KEYS;
            match live {
                Some(tries) if !tries.is_over(now) && !is_full => break,
                Some(_) => {
                    self.tries.remove(key);
                }
                None => {}
            }
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_seconds(1_790_000_000);

    fn caller(address: &str, email: &str) -> Caller {
        Caller::new(address.parse().unwrap(), email, None)
    }

    fn begin(limit: &LoginLimit, address: &str, email: &str) -> bool {
        limit.begin(START, &caller(address, email)).is_ok()
    }

    #[test]
    fn the_eleventh_try_waits_a_quarter_of_an_hour() {
        let limit = LoginLimit::default();
        for _ in 0..PAIR_TRIES {
            assert!(begin(&limit, "203.0.113.1", "a@example.com"));
        }
        let wait = limit.begin(START.plus(WINDOW / 3), &caller("203.0.113.1", "a@example.com"));
        assert_eq!(wait, Err(WINDOW - WINDOW / 3));
        assert!(begin(&limit, "203.0.113.2", "a@example.com"), "not locked out elsewhere");
        assert!(begin(&limit, "203.0.113.1", "b@example.com"));
        let later = START.plus(WINDOW);
        assert!(limit.begin(later, &caller("203.0.113.1", "a@example.com")).is_ok());
        let earlier = START.minus(WINDOW * 9);
        assert!(
            limit.begin(earlier, &caller("203.0.113.1", "a@example.com")).is_ok(),
            "the clock was ahead"
        );
    }

    #[test]
    fn one_network_guesses_no_more_with_many_emails() {
        let limit = LoginLimit::default();
        for n in 0..NETWORK_TRIES {
            assert!(begin(&limit, "203.0.113.1", &format!("{n}@example.com")));
        }
        assert!(!begin(&limit, "203.0.113.1", "x@example.com"));
        assert!(begin(&limit, "203.0.113.2", "x@example.com"));
    }

    #[test]
    fn an_ipv6_network_counts_as_one_and_so_does_what_a_provider_gives_a_customer() {
        let limit = LoginLimit::default();
        for n in 0..NETWORK_TRIES {
            assert!(begin(&limit, &format!("2001:db8:1:2::{n:x}"), &format!("{n}@example.com")));
        }
        assert!(!begin(&limit, "2001:db8:1:2:ffff::1", "x@example.com"));
        for n in 0..WIDE_TRIES - NETWORK_TRIES {
            assert!(begin(&limit, &format!("2001:db8:1:3::{n:x}"), &format!("b{n}@example.com")));
        }
        assert!(!begin(&limit, "2001:db8:1:ff::1", "x@example.com"), "the /56 is used up");
        assert!(begin(&limit, "2001:db8:1:100::1", "x@example.com"), "another one is not");
    }

    #[test]
    fn an_email_has_a_limit_over_all_networks_that_a_known_browser_passes() {
        let limit = LoginLimit::default();
        for n in 0..EMAIL_TRIES {
            assert!(begin(&limit, &format!("203.0.113.{n}"), "a@example.com"));
        }
        assert!(!begin(&limit, "198.51.100.1", "a@example.com"));
        let address = "198.51.100.1".parse().unwrap();
        let known = Caller::new(address, "a@example.com", Some("dev_1".to_owned()));
        for _ in 0..PAIR_TRIES {
            assert!(limit.begin(START, &known).is_ok());
        }
        assert!(limit.begin(START, &known).is_err(), "a stolen cookie guesses slowly too");
    }

    #[test]
    fn a_right_password_forgives_its_own_tries_only() {
        let limit = LoginLimit::default();
        for _ in 0..PAIR_TRIES {
            begin(&limit, "203.0.113.1", "a@example.com");
        }
        limit.forgive(START, &caller("203.0.113.1", "a@example.com"));
        assert!(begin(&limit, "203.0.113.1", "a@example.com"));
        assert_eq!(limit.tables().emails.tries.values().next().unwrap().count, PAIR_TRIES);
        limit.undo(START, &caller("203.0.113.1", "a@example.com"));
        assert_eq!(limit.tables().emails.tries.values().next().unwrap().count, PAIR_TRIES - 1);
    }

    /// What made the old limit forget: tries that were refused came in as new keys.
    #[test]
    fn refused_tries_push_nothing_out() {
        let limit = LoginLimit::default();
        for _ in 0..PAIR_TRIES {
            begin(&limit, "203.0.113.1", "owner@example.com");
        }
        let mut allowed = 0;
        for n in 0..3 * KEYS {
            allowed += u32::from(begin(&limit, "203.0.113.2", &format!("{n}@example.com")));
        }
        assert_eq!(allowed, NETWORK_TRIES);
        assert!(!begin(&limit, "203.0.113.1", "owner@example.com"));
        assert!(limit.tables().emails.tries.len() <= 1 + allowed as usize);
    }

    #[test]
    fn a_flood_from_everywhere_does_not_grow_the_tables() {
        let limit = LoginLimit::default();
        for n in 0..u32::try_from(3 * KEYS).unwrap() {
            let address = IpAddr::from(n.to_be_bytes());
            let now = START.plus(Duration::from_millis(n.into()));
            let caller = Caller::new(address, &format!("{n}@example.com"), None);
            assert!(limit.begin(now, &caller).is_ok());
            limit.forgive(now, &caller);
            assert!(limit.begin(now, &caller).is_ok());
        }
        let tables = limit.tables();
        assert!(tables.networks.tries.len() <= KEYS && tables.networks.order.len() <= 2 * KEYS);
        assert!(tables.pairs.tries.len() <= KEYS && tables.emails.tries.len() <= KEYS);
    }
}
