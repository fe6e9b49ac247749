//! Which network an address belongs to, for limits. Takes an address; returns the networks that count as one subscriber.
//! Pure. One IPv6 subscriber has a /64, often a /56 with 256 of them; an IPv4 address counts for itself.

use std::net::{IpAddr, Ipv6Addr};

/// How many /64 networks a /56 may be worth. A household has a few networks; an attacker with a /56 has 256.
pub(crate) const WIDE_IS_WORTH: u32 = 4;

/// The networks that an address counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Networks {
    /// The IPv4 address itself, or the /64 of an IPv6 address.
    pub(crate) narrow: IpAddr,
    /// The /56 of an IPv6 address.
    pub(crate) wide: Option<IpAddr>,
}

/// The networks that an address counts for.
pub(crate) fn of(address: IpAddr) -> Networks {
    match address.to_canonical() {
        address @ IpAddr::V4(_) => Networks { narrow: address, wide: None },
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            let network = |d| IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0));
            // The last bit keeps a /56 apart from its first /64.
            let wide = IpAddr::V6(Ipv6Addr::new(a, b, c, d & 0xff00, 0, 0, 0, 56));
            Networks { narrow: network(d), wide: Some(wide) }
        }
    }
}

/// True for addresses behind which there may be many clients: a proxy on this machine or in its network.
pub(crate) fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private() || v4.is_loopback() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(text: &str) -> Networks {
        of(text.parse().unwrap())
    }

    #[test]
    fn an_ipv6_address_counts_for_its_64_and_its_56() {
        let one = networks("2001:db8:0:1234::1");
        assert_eq!(one, networks("2001:db8:0:1234:ffff::2"));
        let neighbor = networks("2001:db8:0:12ff::1");
        assert!(one.narrow != neighbor.narrow && one.wide == neighbor.wide);
        assert_ne!(one.wide, networks("2001:db8:0:1334::1").wide);
        // A /56 is not mistaken for its own first /64.
        let first = networks("2001:db8:0:1200::1");
        assert_ne!(Some(first.narrow), first.wide);
    }

    #[test]
    fn an_ipv4_address_counts_for_itself_however_it_is_written() {
        assert_eq!(networks("::ffff:203.0.113.1"), networks("203.0.113.1"));
        assert_eq!(networks("203.0.113.1").wide, None);
    }
}
