//! The options of a webhook endpoint. Takes their form; saves the record, judges and moves what it held, and leads back
//! to the page, or shows the form with an error beside each field.

use axum::Form;
use axum::extract::{Path, State};
use axum::response::Response;
use serde::Deserialize;

use super::{SourceForm, find, form_of, refuse, saved};
use crate::clock::Timestamp;
use crate::conversion;
use crate::dashboard::frame::Viewer;
use crate::dashboard::views::{Field, entered};
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

#[derive(Deserialize)]
pub(in crate::dashboard) struct SourceSent {
    #[serde(default)]
    source_site: String,
    #[serde(default)]
    metadata_key: String,
    #[serde(default)]
    source_mode: String,
    #[serde(default)]
    account: String,
    record_bare_payment_intents: Option<String>,
    /// The user confirms that nothing can be counted twice.
    has_no_invoices: Option<String>,
}

/// `POST /settings/sources/{key}`.
pub(in crate::dashboard) async fn save_source(
    State(state): State<AppState>,
    viewer: Viewer,
    Path(key): Path<String>,
    Form(sent): Form<SourceSent>,
) -> Result<Response, AppError> {
    let snapshot = state.settings.current();
    let source = find(&snapshot, &key)?;
    match read_source(&snapshot, source, &sent) {
        Ok(changed) if counts_twice(&state, source, &changed, &sent).await? => {
            let bare_error = Some(COUNTED_TWICE);
            let form = SourceForm { bare_error, ..form_of(&snapshot, &changed) };
            refuse(&state, &viewer, source, form, None).await
        }
        Ok(changed) => {
            settings::save_source(&state.store, &state.settings, &changed).await?;
            stripe::judge_held(&state.store, viewer.now, &source.id).await?;
            state.wakeups.event_stored.notify_one();
            if changed.site_id != source.site_id {
                conversion::move_with_source(&state.store, &source.id, &source.site_id).await?;
                state.wakeups.visit_recorded.notify_one();
            }
            Ok(saved(&viewer, &key, "source"))
        }
        Err(form) => refuse(&state, &viewer, source, *form, None).await,
    }
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
    sent: &SourceSent,
) -> Result<bool, AppError> {
    let is_switched_on = changed.record_bare_payment_intents && !source.record_bare_payment_intents;
    if !is_switched_on || sent.has_no_invoices.is_some() {
        return Ok(false);
    }
    Ok(!names_payments(report::invoice_events(&state.store, &source.id).await?))
}

#[derive(Deserialize)]
pub(in crate::dashboard) struct AcceptSent {
    /// When the page was rendered; later events are not included.
    until_ms: i64,
}

/// `POST /settings/sources/{key}/accept`.
pub(in crate::dashboard) async fn accept_held(
    State(state): State<AppState>,
    viewer: Viewer,
    Path(key): Path<String>,
    Form(sent): Form<AcceptSent>,
) -> Result<Response, AppError> {
    let snapshot = state.settings.current();
    let source = find(&snapshot, &key)?;
    let until = Timestamp::from_ms(sent.until_ms);
    stripe::accept_held(&state.store, viewer.now, &source.id, until).await?;
    state.wakeups.event_stored.notify_one();
    Ok(saved(&viewer, &key, "accepted"))
}

fn read_source(
    snapshot: &Snapshot,
    old: &Source,
    sent: &SourceSent,
) -> Result<Source, Box<SourceForm>> {
    let field = |text: &str| Field::of(entered(Some(text)).unwrap_or_default());
    let mut form = SourceForm {
        site: field(&sent.source_site),
        metadata_key: field(&sent.metadata_key),
        mode: field(&sent.source_mode),
        account: field(&sent.account),
        record_bare_payment_intents: sent.record_bare_payment_intents.is_some(),
        bare_error: None,
    };
    let key = &form.metadata_key.value;
    if key.is_empty() || key.chars().count() > MAX_METADATA_KEY || key.contains(['[', ']']) {
        form.metadata_key.error = Some(format!(
            "A Stripe metadata key has 1 to {MAX_METADATA_KEY} characters and no square brackets."
        ));
    }
    let account = &form.account.value;
    let is_account = account.strip_prefix("acct_").is_some_and(|rest| {
        !rest.is_empty()
            && rest.len() <= 60
            && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    });
    if !account.is_empty() && !is_account {
        form.account.error = Some(
            "An account ID starts with acct_. Find it in Stripe under Settings, Account details."
                .to_owned(),
        );
    }
    let site = snapshot.site_by_key(&form.site.value);
    if site.is_none() {
        form.site.error = Some("Select a site.".to_owned());
    }
    let mode = SourceMode::parse(&form.mode.value);
    if mode.is_none() {
        form.mode.error = Some("Select a mode.".to_owned());
    }
    let is_right = form.metadata_key.error.is_none() && form.account.error.is_none();
    match (site, mode) {
        (Some(site), Some(mode)) if is_right => Ok(Source {
            site_id: site.id.clone(),
            metadata_key: form.metadata_key.value,
            mode,
            account: form.account.value,
            record_bare_payment_intents: form.record_bare_payment_intents,
            ..old.clone()
        }),
        _ => Err(Box::new(form)),
    }
}
