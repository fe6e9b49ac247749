//! The options of a webhook endpoint. Takes their form; saves the record, judges and moves what it held, and leads back
//! to the page, or shows the form with an error beside each field.

use axum::extract::{Path, State};
use axum::response::Response;

use super::{find, refuse, saved};
use crate::clock::Timestamp;
use crate::conversion;
use crate::dashboard::form::FormData;
use crate::dashboard::frame::Viewer;
use crate::domain::Word as _;
use crate::error::AppError;
use crate::report::{self, InvoiceEvents};
use crate::settings::{self, Snapshot, Source, SourceMode};
use crate::state::AppState;
use crate::stripe;

/// Maximum length of a key in Stripe metadata.
const MAX_METADATA_KEY: usize = 40;

/// Without `invoice_payment.paid`, an invoice and the payment intent that paid it count as two payments.
const COUNTED_TWICE: &str = "Not turned on: this endpoint has not received invoice_payment.paid yet. Without it, each invoice’s payment \
     would count twice. Select this event for the endpoint in Stripe, then turn this on after the first one arrives.";

/// `POST /settings/sources/{key}`.
pub(in crate::dashboard) async fn save_source(
    State(state): State<AppState>,
    viewer: Viewer,
    Path(key): Path<String>,
    mut form: FormData,
) -> Result<Response, AppError> {
    let snapshot = state.settings.current();
    let source = find(&snapshot, &key)?;
    let changed = read_source(&snapshot, source, &mut form);
    if counts_twice(&state, source, &changed, &form).await? {
        form.refuse("record_bare_payment_intents", COUNTED_TWICE);
    }
    if !form.is_right() {
        return refuse(&state, &viewer, source, &form, None).await;
    }
    settings::save_source(&state.store, &state.settings, &changed).await?;
    stripe::judge_held(&state.store, viewer.now, &source.id).await?;
    state.wakeups.event_stored.notify_one();
    if changed.site_id != source.site_id {
        conversion::move_with_source(&state.store, &source.id, &source.site_id).await?;
        state.wakeups.visit_recorded.notify_one();
    }
    Ok(saved(&viewer, &key, "source"))
}

/// Whether an invoice's payment intent can be distinguished from a separate payment.
pub(super) fn names_payments(invoices: InvoiceEvents) -> bool {
    invoices.are_old || invoices.name_payments
}

/// Whether a change turns on payment intents without a checkout although invoice payments would count twice.
async fn counts_twice(
    state: &AppState,
    source: &Source,
    changed: &Source,
    form: &FormData,
) -> Result<bool, AppError> {
    let is_switched_on = changed.record_bare_payment_intents && !source.record_bare_payment_intents;
    if !is_switched_on || form.is_on("has_no_invoices") {
        return Ok(false);
    }
    Ok(!names_payments(report::invoice_events(&state.store, &source.id).await?))
}

/// `POST /settings/sources/{key}/accept`.
pub(in crate::dashboard) async fn accept_held(
    State(state): State<AppState>,
    viewer: Viewer,
    Path(key): Path<String>,
    form: FormData,
) -> Result<Response, AppError> {
    let snapshot = state.settings.current();
    let source = find(&snapshot, &key)?;
    // When the page was rendered; later events are not included.
    let until = form.text("until_ms").parse();
    let until = until.map_err(|_| AppError::bad_request("Load the page again."))?;
    let until = Timestamp::from_ms(until);
    stripe::accept_held(&state.store, viewer.now, &source.id, until).await?;
    state.wakeups.event_stored.notify_one();
    Ok(saved(&viewer, &key, "accepted"))
}

fn read_source(snapshot: &Snapshot, old: &Source, form: &mut FormData) -> Source {
    let metadata_key = form.text("metadata_key");
    let is_long = metadata_key.chars().count() > MAX_METADATA_KEY;
    if metadata_key.is_empty() || is_long || metadata_key.contains(['[', ']']) {
        form.refuse(
            "metadata_key",
            format!("A Stripe metadata key has 1 to {MAX_METADATA_KEY} characters and no square brackets."),
        );
    }
    let account = form.text("account");
    let is_account = account.strip_prefix("acct_").is_some_and(|rest| {
        !rest.is_empty()
            && rest.len() <= 60
            && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    });
    if !account.is_empty() && !is_account {
        form.refuse(
            "account",
            "An account ID starts with acct_. Find it in Stripe under Settings, Account details.",
        );
    }
    let site = snapshot.site_by_key(&form.text("source_site")).map(|site| site.id.clone());
    let mode = SourceMode::parse(&form.text("source_mode")).ok_or("Select a mode.");
    Source {
        site_id: form.take("source_site", site.ok_or("Select a site.")),
        metadata_key,
        mode: form.take("source_mode", mode),
        account,
        record_bare_payment_intents: form.is_on("record_bare_payment_intents"),
        ..old.clone()
    }
}
