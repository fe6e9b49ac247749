//! Adds up both sides of a comparison.
//! Takes payments of Stripe's and what is recorded for them here; returns the sums and the differences.
//! Every payment is compared on its own, so two mistakes cannot cancel each other out. Pure.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;

use super::nightly::local;
use super::object::Paid;
use super::{Arrived, Difference, Here, Reconciled, Sums};
use crate::clock::Timestamp;
use crate::money::{Currency, Money};

/// Both sides, while they are added up.
pub(super) struct Sheet<'a> {
    zone: &'a TimeZone,
    days: BTreeMap<(String, Currency), (Side, Side, usize)>,
    differences: Vec<Difference>,
}

#[derive(Clone, Copy, Default)]
struct Side {
    count: u64,
    minor: i64,
}

impl Side {
    fn add(&mut self, minor: i64) {
        self.count += 1;
        self.minor = self.minor.saturating_add(minor);
    }

    fn amount(self, currency: Currency) -> String {
        Money { minor: self.minor, currency }.decimal()
    }
}

fn shown(money: Money) -> String {
    format!("{} {}", money.decimal(), money.currency)
}

impl<'a> Sheet<'a> {
    pub(super) fn of(zone: &'a TimeZone) -> Self {
        Self { zone, days: BTreeMap::new(), differences: Vec::new() }
    }

    fn day(&self, at: Timestamp) -> String {
        local(at, self.zone).map(|zoned| zoned.date().to_string()).unwrap_or_default()
    }

    fn line(&mut self, day: &str, currency: Currency) -> &mut (Side, Side, usize) {
        self.days.entry((day.to_owned(), currency)).or_default()
    }

    /// A payment of Stripe's, and ours if there is one. True when fetching it would help.
    pub(super) fn compare(
        &mut self,
        paid: &Paid,
        here: Option<&Here>,
        arrived: Option<&Arrived>,
    ) -> bool {
        let day = self.day(paid.created);
        self.line(&day, paid.money.currency).0.add(paid.money.minor);
        let counted = here.filter(|here| here.is_paid).and_then(|here| here.money);
        if let Some(money) = counted {
            self.line(&day, money.currency).1.add(money.minor);
        }
        if counted == Some(paid.money) {
            return false;
        }
        let fix = fix(here, arrived);
        self.line(&day, paid.money.currency).2 += 1;
        self.differences.push(Difference {
            day,
            stripe_id: paid.id.clone(),
            conversion_id: here.map(|here| here.id.clone()),
            stripe: Some(shown(paid.money)),
            here: here.map(|here| {
                here.money.map_or_else(
                    || here.status.clone(),
                    |money| {
                        if here.is_paid {
                            shown(money)
                        } else {
                            format!("{}, {}", shown(money), here.status)
                        }
                    },
                )
            }),
            fix,
        });
        here.is_none_or(|here| !here.is_paid)
    }

    /// A payment of ours that Stripe's list lacks.
    pub(super) fn surplus(&mut self, id: &str, created: Timestamp, here: &Here) {
        let Some(money) = here.money else { return };
        let day = self.day(created);
        let line = self.line(&day, money.currency);
        line.1.add(money.minor);
        line.2 += 1;
        self.differences.push(Difference {
            day,
            stripe_id: id.to_owned(),
            conversion_id: Some(here.id.clone()),
            stripe: None,
            here: Some(shown(money)),
            fix: format!(
                "Stripe lists no such payment for this key. Is it another account's? Look at /conversions/{}",
                here.id
            ),
        });
    }

    pub(super) fn close(
        mut self,
        livemode: bool,
        from: Timestamp,
        until: Timestamp,
        repaired: u64,
    ) -> Reconciled {
        let mut totals: BTreeMap<Currency, (Side, Side, usize)> = BTreeMap::new();
        for ((_, currency), (stripe, here, gap)) in &self.days {
            let total = totals.entry(*currency).or_default();
            total.0.count += stripe.count;
            total.0.minor = total.0.minor.saturating_add(stripe.minor);
            total.1.count += here.count;
            total.1.minor = total.1.minor.saturating_add(here.minor);
            total.2 += gap;
        }
        let sums = |day: &str, currency: Currency, (stripe, here, gap): (Side, Side, usize)| Sums {
            day: day.to_owned(),
            currency: currency.to_string(),
            stripe_count: stripe.count,
            stripe_amount: stripe.amount(currency),
            here_count: here.count,
            here_amount: here.amount(currency),
            gap,
        };
        self.differences.sort_by(|a, b| (&a.day, &a.stripe_id).cmp(&(&b.day, &b.stripe_id)));
        Reconciled {
            livemode,
            from,
            until,
            totals: totals.into_iter().map(|(currency, total)| sums("", currency, total)).collect(),
            days: self
                .days
                .iter()
                .map(|((day, currency), line)| sums(day, *currency, *line))
                .collect(),
            gap: self.differences.len(),
            differences: self.differences,
            repaired,
        }
    }
}

/// Why Stripe's payment is not the same here, and what to do.
fn fix(here: Option<&Here>, arrived: Option<&Arrived>) -> String {
    match (here, arrived) {
        (Some(here), _) if here.is_paid => {
            "The amount is another one here. Run `clickstamp replay`; if that finds nothing, its event is read wrongly".to_owned()
        }
        (Some(here), _) => format!(
            "It is {} here: the event that says paid never arrived. Run `clickstamp reconcile --repair`",
            here.status
        ),
        (None, None) => "It never arrived. Run `clickstamp reconcile --repair`, or resend its event in Stripe".to_owned(),
        (None, Some(arrived)) => match arrived.state.as_str() {
            "failed" => format!(
                "It arrived as {} and could not be read: {}. Run it again at /events/{}",
                arrived.event_id,
                arrived.error.as_deref().unwrap_or_default(),
                arrived.id
            ),
            "received" => format!("It arrived as {} and is not processed yet. Wait a moment", arrived.event_id),
            _ => format!(
                "It arrived as {} and made no conversion. Run `clickstamp replay --apply`",
                arrived.event_id
            ),
        },
    }
}
