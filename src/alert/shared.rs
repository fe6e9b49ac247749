//! Click IDs that several customers paid with.
//! Takes the payments of such click IDs; returns the click ID with the most customers, and all
//! payments of click IDs with enough of them.
//! Pure. A customer is everybody with the same email address or the same Stripe customer, so that
//! one person with two addresses, or with two customers in Stripe, is one customer.

use std::collections::{BTreeMap, BTreeSet};

use crate::report::{SharedPayment, Stakes};

/// Maximum number of payments that an alert names.
const NAMED: usize = 5;

/// What several customers paid with.
pub(super) struct Shared {
    /// The click ID with the most customers, and their number.
    pub(super) click_id: String,
    pub(super) customers: i64,
    /// How many click IDs have enough customers.
    pub(super) click_ids: i64,
    /// All payments with them.
    pub(super) stakes: Stakes,
}

/// The click IDs with at least `fewest` customers; `None` if there are none. Payments are newest
/// first.
pub(super) fn shared(payments: &[SharedPayment], fewest: usize) -> Option<Shared> {
    let mut by_id = BTreeMap::<&str, Vec<&SharedPayment>>::new();
    for payment in payments {
        by_id.entry(&payment.click_id).or_default().push(payment);
    }
    let mut found = BTreeMap::<&str, usize>::new();
    for (click_id, payments) in by_id {
        let customers = customers(&payments);
        if customers >= fewest {
            found.insert(click_id, customers);
        }
    }
    let (click_id, customers) = found.iter().max_by_key(|(_, customers)| **customers)?;
    let mut stakes = Stakes::default();
    for payment in payments.iter().filter(|payment| found.contains_key(payment.click_id.as_str())) {
        if let Some(amount) = payment.example.amount {
            stakes.money.add(amount);
        }
        if stakes.examples.len() < NAMED {
            stakes.examples.push(payment.example.clone());
        }
    }
    let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    Some(Shared {
        click_id: (*click_id).to_owned(),
        customers: count(*customers),
        click_ids: count(found.len()),
        stakes,
    })
}

/// The number of different customers. A payment without an email address and a customer belongs to
/// nobody.
fn customers(payments: &[&SharedPayment]) -> usize {
    let mut known = Vec::<BTreeSet<String>>::new();
    for payment in payments {
        let email = payment.email.as_deref().map(mailbox);
        let names = [email, payment.customer.clone()];
        let names: BTreeSet<String> = names.into_iter().flatten().collect();
        if names.is_empty() {
            continue;
        }
        let (same, others): (Vec<_>, Vec<_>) =
            known.into_iter().partition(|customer| !customer.is_disjoint(&names));
        known = others;
        known.push(same.into_iter().fold(names, |mut all, customer| {
            all.extend(customer);
            all
        }));
    }
    known.len()
}

/// An address in lower case, without what follows a plus sign: `ada+shop@example.com` is
/// `ada@example.com`.
fn mailbox(email: &str) -> String {
    let email = email.to_lowercase();
    match email.split_once('@') {
        Some((name, host)) => format!("{}@{host}", name.split('+').next().unwrap_or(name)),
        None => email,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Example;

    fn payment(click_id: &str, email: &str, customer: &str) -> SharedPayment {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        SharedPayment {
            click_id: click_id.to_owned(),
            email: some(email),
            customer: some(customer),
            example: Example {
                conversion_id: "cnv_1".to_owned(),
                transaction_id: "cs_1".to_owned(),
                amount: None,
            },
        }
    }

    #[test]
    fn one_person_with_several_addresses_or_customers_is_one_customer() {
        let rows: [(&[(&str, &str)], usize); 6] = [
            (&[("a@x.de", ""), ("A@X.de", ""), ("a+shop@x.de", "")], 1),
            (&[("a@x.de", "cus_1"), ("b@x.de", "cus_1"), ("b@x.de", "cus_2")], 1),
            (&[("a@x.de", "cus_1"), ("b@x.de", "cus_2"), ("a@x.de", "cus_2")], 1),
            (&[("", ""), ("", ""), ("", "")], 0),
            (&[("a@x.de", ""), ("b@x.de", ""), ("", "cus_3")], 3),
            (&[("a@x.de", "cus_1"), ("b@x.de", "cus_2"), ("c@x.de", "")], 3),
        ];
        for (given, expected) in rows {
            let payments: Vec<_> =
                given.iter().map(|(email, customer)| payment("ck_1", email, customer)).collect();
            let payments: Vec<_> = payments.iter().collect();
            assert_eq!(customers(&payments), expected, "{given:?}");
        }
    }

    #[test]
    fn the_click_id_with_the_most_customers_is_named_and_only_shared_ones_count() {
        let mut payments: Vec<_> =
            ["a", "b", "c", "d"].map(|name| payment("ck_many", &format!("{name}@x.de"), "")).into();
        payments.extend(["a", "b", "c"].map(|name| payment("ck_few", &format!("{name}@y.de"), "")));
        payments.extend(["a", "b"].map(|name| payment("ck_two", &format!("{name}@z.de"), "")));
        let found = shared(&payments, 3).expect("two are shared");
        assert_eq!((found.click_id.as_str(), found.customers, found.click_ids), ("ck_many", 4, 2));
        assert_eq!(found.stakes.examples.len(), NAMED);
        assert!(shared(&payments, 5).is_none());
    }
}
