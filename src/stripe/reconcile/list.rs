//! Reads Stripe's lists for a comparison.
//! Takes a range; returns what Stripe calls paid in it. Every page is read, or the whole list fails.

use serde_json::value::RawValue;

use super::object::{self, Paid};
use crate::clock::Timestamp;
use crate::stripe::api::{Api, ApiError};

/// Reads an item of a list.
type Read = fn(Box<RawValue>) -> Option<Paid>;

pub(super) async fn paid_at_stripe(
    api: &Api,
    account: &str,
    from: Timestamp,
    until: Timestamp,
) -> Result<Vec<Paid>, ApiError> {
    let lists: [(&str, &str, Read); 2] = [
        ("/v1/checkout/sessions", "complete", object::session),
        ("/v1/invoices", "paid", object::invoice),
    ];
    // Only these contain what was captured, and what was paid in addition to a credit balance.
    let expanded = ["data.payment_intent", "data.invoice"];
    let mut paid = Vec::new();
    for (path, status, read) in lists {
        let mut query = vec![
            ("status", status.to_owned()),
            ("created[gte]", from.as_seconds().to_string()),
            ("created[lt]", until.as_seconds().to_string()),
        ];
        if path == "/v1/checkout/sessions" {
            query.extend(expanded.map(|object| ("expand[]", object.to_owned())));
        }
        let mut pages = api.pages(account, path, &query);
        while let Some(items) = pages.next().await? {
            paid.extend(items.into_iter().filter_map(read));
        }
    }
    Ok(paid)
}
