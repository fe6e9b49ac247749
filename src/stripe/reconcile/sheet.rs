//! Adds up both sides of a comparison.
//! Takes payments, refunds and disputes one by one, as Stripe's records and the ledger have them; returns the sums and the differences.
//! Each is compared on its own, so two mistakes cannot cancel each other out. Pure.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;

use super::result::{Difference, Kind, Sums};
use crate::clock::Timestamp;
use crate::money::{Currency, Money};

/// Both sides, while they are added up.
pub(super) struct Sheet<'a> {
    zone: &'a TimeZone,
    days: BTreeMap<(String, Kind, Currency), Line>,
    differences: Vec<Difference>,
}

/// The sums of one day, kind and currency.
#[derive(Clone, Copy, Default)]
struct Line {
    stripe: Side,
    here: Side,
    gap: usize,
}

#[derive(Clone, Copy, Default)]
struct Side {
    count: u64,
    minor: i64,
}

impl Side {
    fn add(&mut self, minor: i64) {
        self.absorb(Self { count: 1, minor });
    }

    fn absorb(&mut self, other: Self) {
        self.count += other.count;
        self.minor = self.minor.saturating_add(other.minor);
    }

    fn amount(self, currency: Currency) -> String {
        Money { minor: self.minor, currency }.decimal()
    }
}

/// One payment, refund or dispute on both sides.
pub(super) struct Item<'a> {
    pub(super) kind: Kind,
    /// Stripe's ID.
    pub(super) id: &'a str,
    pub(super) created: Timestamp,
    /// What counts in Stripe's records; `None` for nothing.
    pub(super) stripe: Option<Money>,
    /// What counts in the ledger; `None` for nothing.
    pub(super) here: Option<Money>,
    /// Set if the two differ.
    pub(super) difference: Option<Found>,
}

/// What is said about a difference.
pub(super) struct Found {
    pub(super) conversion_id: Option<String>,
    /// What Stripe's records have, as text; `None` if its list has none.
    pub(super) stripe: Option<String>,
    /// What the ledger has, as text; `None` if it is missing.
    pub(super) here: Option<String>,
    pub(super) fix: String,
}

/// An amount as text.
pub(super) fn shown(money: Money) -> String {
    format!("{} {}", money.decimal(), money.currency)
}

impl<'a> Sheet<'a> {
    pub(super) fn of(zone: &'a TimeZone) -> Self {
        Self { zone, days: BTreeMap::new(), differences: Vec::new() }
    }

    /// Adds one of them to both sides.
    pub(super) fn add(&mut self, item: Item<'_>) {
        let Item { kind, id, created, stripe, here, difference } = item;
        let day = created.in_zone(self.zone).date().to_string();
        if let Some(money) = stripe {
            self.line(&day, kind, money).stripe.add(money.minor);
        }
        if let Some(money) = here {
            self.line(&day, kind, money).here.add(money.minor);
        }
        let Some(found) = difference else { return };
        if let Some(money) = stripe.or(here) {
            self.line(&day, kind, money).gap += 1;
        }
        self.differences.push(Difference {
            kind,
            day,
            stripe_id: id.to_owned(),
            conversion_id: found.conversion_id,
            stripe: found.stripe,
            here: found.here,
            fix: found.fix,
        });
    }

    fn line(&mut self, day: &str, kind: Kind, money: Money) -> &mut Line {
        self.days.entry((day.to_owned(), kind, money.currency)).or_default()
    }

    /// The sums of all days.
    pub(super) fn totals(&self) -> Vec<Sums> {
        let mut totals: BTreeMap<(Kind, Currency), Line> = BTreeMap::new();
        for ((_, kind, currency), line) in &self.days {
            let total = totals.entry((*kind, *currency)).or_default();
            total.stripe.absorb(line.stripe);
            total.here.absorb(line.here);
            total.gap += line.gap;
        }
        totals.iter().map(|((kind, currency), line)| line.sums("", *kind, *currency)).collect()
    }

    /// The sums of each day.
    pub(super) fn days(&self) -> Vec<Sums> {
        let days = self.days.iter();
        days.map(|((day, kind, currency), line)| line.sums(day, *kind, *currency)).collect()
    }

    /// All differences, by day.
    pub(super) fn differences(self) -> Vec<Difference> {
        let mut differences = self.differences;
        let key = |it: &Difference| (it.day.clone(), it.kind, it.stripe_id.clone());
        differences.sort_by_key(key);
        differences
    }
}

impl Line {
    fn sums(&self, day: &str, kind: Kind, currency: Currency) -> Sums {
        Sums {
            kind,
            day: day.to_owned(),
            currency: currency.to_string(),
            stripe_count: self.stripe.count,
            stripe_amount: self.stripe.amount(currency),
            here_count: self.here.count,
            here_amount: self.here.amount(currency),
            gap: self.gap,
        }
    }
}
