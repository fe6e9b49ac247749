//! Limits the visits of each address.
//! Takes an address and the time; returns whether the visit is allowed.
//! Guarantees bounded memory during a flood; the default limit is high enough for an office behind
//! one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::Timestamp;
use crate::limit::network::{self, WIDE_IS_WORTH};

/// Maximum number of addresses per minute; beyond it, new addresses are allowed without being
/// counted.
const MAX_ADDRESSES: usize = 100_000;

/// Counts per address in the current minute.
#[derive(Clone, Debug)]
pub(crate) struct VisitLimit {
    per_minute: u32,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    minute: i64,
    by_address: HashMap<IpAddr, u32>,
}

impl VisitLimit {
    /// Allows `per_minute` visits per address; 0 means no limit.
    pub(crate) fn new(per_minute: u32) -> Self {
        Self { per_minute, counts: Arc::default() }
    }

    /// Counts one visit; returns false if it is over the limit.
    pub(crate) fn allows(&self, address: IpAddr, now: Timestamp) -> bool {
        if self.per_minute == 0 {
            return true;
        }
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = now.as_ms().div_euclid(60_000);
        if counts.minute != minute {
            counts.minute = minute;
            counts.by_address = HashMap::new();
        }
        let networks = network::of(address);
        let is_fine = counts.count(networks.narrow) <= self.per_minute;
        // An IPv6 subscriber may have 256 networks of the narrow kind.
        let widely = self.per_minute.saturating_mul(WIDE_IS_WORTH);
        is_fine && networks.wide.is_none_or(|wide| counts.count(wide) <= widely)
    }
}

impl Counts {
    /// Counts one more of a network; 0 if the map is full.
    fn count(&mut self, network: IpAddr) -> u32 {
        if self.by_address.len() >= MAX_ADDRESSES && !self.by_address.contains_key(&network) {
            return 0;
        }
        let count = self.by_address.entry(network).or_default();
        *count = count.saturating_add(1);
        *count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_is_stopped_and_the_next_minute_is_new() {
        let limit = VisitLimit::new(2);
        let (one, other): (IpAddr, IpAddr) =
            ("203.0.113.1".parse().unwrap(), "203.0.113.2".parse().unwrap());
        let now = Timestamp::from_ms(60_000);
        assert!(limit.allows(one, now) && limit.allows(one, now));
        assert!(!limit.allows(one, now));
        assert!(limit.allows(other, now));
        assert!(limit.allows(one, Timestamp::from_ms(120_000)));
        assert!((0..1000).all(|_| VisitLimit::new(0).allows(one, now)));
    }

    #[test]
    fn an_ipv6_network_counts_as_one() {
        let limit = VisitLimit::new(1);
        assert!(limit.allows("2001:db8::1".parse().unwrap(), Timestamp::from_ms(0)));
        assert!(!limit.allows("2001:db8::2".parse().unwrap(), Timestamp::from_ms(0)));
    }

    #[test]
    fn a_56_is_worth_four_of_its_256_networks() {
        let limit = VisitLimit::new(1);
        let allowed = (0..256).filter(|n| {
            let address = format!("2001:db8:0:12{n:02x}::1").parse().unwrap();
            limit.allows(address, Timestamp::from_ms(0))
        });
        assert_eq!(allowed.count(), 4);
        assert!(limit.allows("2001:db8:0:1300::1".parse().unwrap(), Timestamp::from_ms(0)));
    }

    #[test]
    fn ipv4_clients_of_a_dual_socket_are_not_one_network() {
        let limit = VisitLimit::new(1);
        let now = Timestamp::from_ms(0);
        assert!(limit.allows("::ffff:203.0.113.1".parse().unwrap(), now));
        assert!(limit.allows("::ffff:203.0.113.2".parse().unwrap(), now));
        assert!(!limit.allows("203.0.113.2".parse().unwrap(), now));
    }
}
