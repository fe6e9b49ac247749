//! Reads Stripe's lists for a comparison.
//! Takes a range; returns the payments, refunds and disputes that Stripe's records have in it.
//! Every page of a list is read. A list that the key may not read is named, and the others are still compared.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::value::RawValue;

use super::comparison::Comparison;
use super::object::{self, Dispute, Intent, Paid, Refund};
use super::result::{NotCompared, Part};
use crate::stripe::api::ApiError;

/// Stripe's records of a range.
#[derive(Default)]
pub(super) struct Records {
    /// Payments of completed checkouts and of paid invoices.
    pub(super) paid: Vec<Paid>,
    /// Payment intents that belong to one of these.
    pub(super) owned: BTreeSet<String>,
    /// Payment intents that succeeded and belong to none of these.
    pub(super) intents: Vec<Intent>,
    pub(super) refunds: Vec<Refund>,
    pub(super) disputes: Vec<Dispute>,
    /// The lists that were read to their ends.
    pub(super) complete: BTreeSet<Part>,
    pub(super) not_compared: Vec<NotCompared>,
}

impl Records {
    /// Reads all lists.
    ///
    /// # Errors
    /// An [`ApiError`] if Stripe gives no answer that helps, or if the key may read none of them.
    pub(super) async fn fetch(comparison: &Comparison<'_>) -> Result<Self, ApiError> {
        let mut records = Self::default();
        let mut denied = None;
        for part in
            [Part::Checkouts, Part::Invoices, Part::PaymentIntents, Part::Refunds, Part::Disputes]
        {
            match records.read(comparison, part).await {
                Ok(0) => {}
                Ok(unreadable) => {
                    let why = "no amount could be read";
                    records.not_compared.extend(NotCompared::some(part, unreadable, why));
                }
                Err(error @ ApiError::Denied(_)) => {
                    records.not_compared.push(denied_part(part));
                    denied = denied.or(Some(error));
                    continue;
                }
                Err(error) => return Err(error),
            }
            records.complete.insert(part);
        }
        match denied {
            Some(error) if records.complete.is_empty() => Err(error),
            _ => Ok(records),
        }
    }

    /// Reads a list page by page, because most payment intents need not be kept. Returns how many refunds or disputes could not be read.
    async fn read(&mut self, comparison: &Comparison<'_>, part: Part) -> Result<u64, ApiError> {
        let query = query(comparison, part);
        let mut pages = comparison.records.api.pages(comparison.account, part.path(), &query);
        let mut unreadable = 0;
        while let Some(items) = pages.next().await? {
            for item in items {
                let is_read = self.add(part, item, &comparison.records.source.metadata_key);
                unreadable += u64::from(!is_read);
            }
        }
        Ok(unreadable)
    }

    /// Adds an item of a list; false if it is a refund or dispute without an amount.
    fn add(&mut self, part: Part, item: Box<RawValue>, metadata_key: &str) -> bool {
        match part {
            Part::Checkouts => {
                if let Some(session) = object::session(item) {
                    self.owned.extend(session.intent);
                    self.paid.extend(session.paid);
                }
            }
            Part::Invoices => {
                if let Some(paid) = object::invoice(item) {
                    self.owned.extend(paid.intents.iter().cloned());
                    self.paid.push(paid);
                }
            }
            Part::PaymentIntents => {
                let intent = object::intent(item, metadata_key);
                self.intents.extend(intent.filter(|it| !self.owned.contains(&it.paid.id)));
            }
            Part::Refunds => {
                let refund = object::refund(item);
                let is_read = refund.is_some();
                self.refunds.extend(refund);
                return is_read;
            }
            Part::Disputes => {
                let dispute = object::dispute(item);
                let is_read = dispute.is_some();
                self.disputes.extend(dispute);
                return is_read;
            }
        }
        true
    }

    /// The payment, in these lists, that a payment intent paid.
    pub(super) fn payers(&self) -> BTreeMap<&str, &Paid> {
        let pairs = self.paid.iter().flat_map(|paid| paid.intents.iter().map(move |it| (it, paid)));
        pairs.map(|(intent, paid)| (intent.as_str(), paid)).collect()
    }
}

/// What is said of a list that the key may not read.
fn denied_part(part: Part) -> NotCompared {
    let why =
        format!("the key may not read them: add “{}: Read” to it in Stripe", part.permission());
    NotCompared::all(part, why)
}

/// What is asked of a list: everything that was created in the range.
fn query(comparison: &Comparison<'_>, part: Part) -> Vec<(&'static str, String)> {
    let range = comparison.range;
    let mut query = vec![
        ("created[gte]", range.from.as_seconds().to_string()),
        ("created[lt]", range.until.as_seconds().to_string()),
    ];
    let (status, expanded): (Option<&str>, &[&str]) = match part {
        // Only these contain what was captured, and what was paid in addition to a credit balance.
        Part::Checkouts => (Some("complete"), &["data.payment_intent", "data.invoice"]),
        // Invoices name their payment intents only here.
        Part::Invoices => (Some("paid"), &["data.payments"]),
        // The charge has the sum of its refunds, and how much of it was captured at all.
        Part::Refunds => (None, &["data.charge"]),
        Part::PaymentIntents | Part::Disputes => (None, &[]),
    };
    query.extend(status.map(|status| ("status", status.to_owned())));
    query.extend(expanded.iter().map(|object| ("expand[]", (*object).to_owned())));
    query
}

/// True if a payment intent belongs to a checkout or an invoice, whenever that was created.
pub(super) async fn has_owner(comparison: &Comparison<'_>, intent: &str) -> Result<bool, ApiError> {
    let (api, account) = (&comparison.records.api, comparison.account);
    let questions = [
        ("/v1/checkout/sessions", vec![("payment_intent", intent.to_owned())]),
        (
            "/v1/invoice_payments",
            vec![
                ("payment[type]", "payment_intent".to_owned()),
                ("payment[payment_intent]", intent.to_owned()),
            ],
        ),
    ];
    for (path, query) in questions {
        if !api.page(account, path, &query, None).await?.data.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}
