//! How often somebody may try to sign in.
//! In: an address or an e-mail, the time. Out: whether this try is allowed.
//! Promise: guessing is slow from one address and against one e-mail, and the memory for it is bounded.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;

/// Tries per key within the window. People mistype three or four times; guessing needs thousands.
const TRIES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(15 * 60);
/// Keys remembered at most, about 100 bytes each. A flood from more addresses pushes out the oldest.
const KEYS: usize = 10_000;

/// Counts tries, in memory: a restart forgives. Clones share their counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct LoginLimit(Arc<Mutex<HashMap<String, Tries>>>);

#[derive(Clone, Copy, Debug)]
struct Tries {
    since: Timestamp,
    count: u32,
}

impl LoginLimit {
    /// Counts one try against both keys. False when either is used up.
    pub(super) fn allow(&self, now: Timestamp, address: IpAddr, email: &str) -> bool {
        let mut tries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let by_address = count(&mut tries, now, address_key(address));
        let by_email = count(&mut tries, now, email_key(email));
        by_address && by_email
    }

    /// A right password forgives the tries before it.
    pub(super) fn forgive(&self, address: IpAddr, email: &str) {
        let mut tries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tries.remove(&address_key(address));
        tries.remove(&email_key(email));
    }
}

/// One household or server has a whole IPv6 /64.
fn address_key(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => format!("a:{address}"),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("a:{a:x}:{b:x}:{c:x}:{d:x}")
        }
    }
}

/// Hashed, so that a long text takes no more room than a short one.
fn email_key(email: &str) -> String {
    format!("e:{}", crate::ids::sha256_hex(email.as_bytes()))
}

fn count(tries: &mut HashMap<String, Tries>, now: Timestamp, key: String) -> bool {
    if tries.len() >= KEYS && !tries.contains_key(&key) {
        tries.retain(|_, tries| now.since(tries.since) < WINDOW);
        if tries.len() >= KEYS {
            let oldest = tries.iter().min_by_key(|(_, tries)| tries.since);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                tries.remove(&oldest);
            }
        }
    }
    let entry = tries.entry(key).or_insert(Tries { since: now, count: 0 });
    if now.since(entry.since) >= WINDOW {
        *entry = Tries { since: now, count: 0 };
    }
    entry.count = entry.count.saturating_add(1);
    entry.count <= TRIES
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_seconds(1_790_000_000);

    fn address(last: u8) -> IpAddr {
        IpAddr::from([203, 0, 113, last])
    }

    #[test]
    fn the_eleventh_try_waits_a_quarter_of_an_hour() {
        let limiter = LoginLimit::default();
        for _ in 0..TRIES {
            assert!(limiter.allow(START, address(1), "a@example.com"));
        }
        assert!(!limiter.allow(START, address(1), "b@example.com"), "the address is used up");
        assert!(!limiter.allow(START, address(2), "a@example.com"), "the e-mail is used up");
        assert!(limiter.allow(START, address(3), "c@example.com"));
        assert!(limiter.allow(START.plus(WINDOW), address(1), "a@example.com"));
    }

    #[test]
    fn a_right_password_forgives() {
        let limiter = LoginLimit::default();
        for _ in 0..TRIES {
            limiter.allow(START, address(1), "a@example.com");
        }
        limiter.forgive(address(1), "a@example.com");
        assert!(limiter.allow(START, address(1), "a@example.com"));
    }

    #[test]
    fn an_ipv6_network_counts_as_one() {
        let limiter = LoginLimit::default();
        for last in 0..TRIES {
            let address = format!("2001:db8:1:2::{last}").parse().unwrap();
            assert!(limiter.allow(START, address, &format!("{last}@example.com")));
        }
        let next = "2001:db8:1:2:ffff::1".parse().unwrap();
        assert!(!limiter.allow(START, next, "x@example.com"));
    }

    #[test]
    fn a_flood_does_not_grow_the_map() {
        let limiter = LoginLimit::default();
        for n in 0..u32::try_from(KEYS).unwrap() {
            let address = IpAddr::from(n.to_be_bytes());
            limiter.allow(START.plus(Duration::from_millis(n.into())), address, "a@example.com");
        }
        assert!(limiter.0.lock().unwrap().len() <= KEYS);
    }
}
