//! The actions of a destination's page, one route each. Takes the form of a button; saves or queues something and leads
//! back to the page, or shows the page with a preview, the result of a test, a new secret, or errors.
//! A mapping that fails on a recorded conversion is not saved.

use std::time::Duration;

use axum::Extension;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;

use super::form;
use super::message::samples;
use super::{DAY, Draft, OWN_ADDRESS, Opened, ledger, tried_item};
use crate::clock::{Clock, Timestamp};
use crate::config::Secret;
use crate::dashboard::form::FormData;
use crate::dashboard::page;
use crate::destination::{self, Sender, mapping, presets};
use crate::domain::Word as _;
use crate::error::AppError;
use crate::settings::{self, Destination};
use crate::{conversion, delivery, report};

/// Number of past conversions queued in one transaction.
const PAST_AT_A_TIME: usize = 100;
/// How long one request queues past conversions. Requests are aborted after half a minute.
const PAST_PATIENCE: Duration = Duration::from_secs(15);

/// `POST /settings/destinations/{key}`: saves the record under a new revision.
pub(in crate::dashboard) async fn save_destination(
    here: Opened,
    form: FormData,
) -> Result<Response, AppError> {
    let draft = enter(&here, form, None).await?;
    if draft.is_refused() {
        let page = here.show(draft).await?;
        return Ok((StatusCode::UNPROCESSABLE_ENTITY, page).into_response());
    }
    let (state, new) = (&here.state, &draft.destination);
    let by = &here.viewer.user.email;
    settings::save_destination(&state.store, &state.settings, here.viewer.now, new, by).await?;
    if new.url != here.found.url
        || new.options.message.headers != here.found.options.message.headers
    {
        delivery::reset_breaker(&state.store, &here.found.id).await?;
    }
    state.wakeups.delivery_queued.notify_one();
    Ok(here.done("saved"))
}

/// `POST /settings/destinations/{key}/preview`: shows the message of the form; saves nothing.
pub(in crate::dashboard) async fn preview_message(
    here: Opened,
    form: FormData,
) -> Result<Response, AppError> {
    here.show(enter(&here, form, None).await?).await
}

/// `POST /settings/destinations/{key}/template`: shows the form with the fields of a template; saves nothing.
pub(in crate::dashboard) async fn load_template(
    here: Opened,
    form: FormData,
) -> Result<Response, AppError> {
    let template = presets::Preset::find(&form.text("preset"));
    here.show(enter(&here, form, template).await?).await
}

/// The form as entered, with its errors and those of its mapping.
async fn enter(
    here: &Opened,
    mut form: FormData,
    template: Option<&presets::Preset>,
) -> Result<Draft, AppError> {
    let (state, viewer) = (&here.state, &here.viewer);
    let snapshot = state.settings.current();
    let allow_private = state.config.allow_private_destinations;
    let mut entered = form::read(&here.found, &mut form, &snapshot.sites, allow_private);
    if viewer.client.is_ours(entered.url.expose()) {
        form.refuse("url", OWN_ADDRESS);
    }
    if let Some(template) = template {
        entered.options.message.rows = Some(template.rows());
        entered.options.message.encoding = template.encoding;
        form.set("encoding", template.encoding.as_str());
    }
    let mut row_faults = Vec::new();
    if let Some(rows) = &entered.options.message.rows {
        // The sample conversion has all fields, so it is checked first.
        let samples = samples(state, viewer, &entered).await?;
        let tried: Vec<Value> = samples.into_iter().rev().map(|sample| sample.names).collect();
        let checked = rows.clone();
        match destination::apart(move || mapping::check(&checked, &tried)).await {
            Ok(found) => row_faults = found,
            Err(why) => form.general.push(format!("The message can’t be built: {why}.")),
        }
        let lacks = (destination::kind(entered.kind).mapping_faults)(rows);
        if rows.is_empty() {
            form.refuse(
                "rows",
                "The mapping has no fields. Add one, or select the standard message.",
            );
        } else if !lacks.is_empty() {
            form.refuse("rows", lacks.join(" "));
        }
    }
    if !row_faults.is_empty() {
        let said = "Some fields of the mapping have errors. They are marked below:";
        form.general.push(said.to_owned());
    }
    Ok(Draft { form, row_faults, ..Draft::of(&entered) })
}

/// `POST /settings/destinations/{key}/test`: sends a sample conversion.
pub(in crate::dashboard) async fn send_test_conversion(
    here: Opened,
    Extension(sender): Extension<Sender>,
) -> Result<Response, AppError> {
    let (now, site) = (here.viewer.now, &here.viewer.site.key);
    let tried = destination::try_out(&sender, now, &here.found, site).await;
    let tried = Some(tried_item(&here.found, tried));
    here.show(Draft { tried, ..Draft::of(&here.found) }).await
}

/// `POST /settings/destinations/{key}/enable`.
pub(in crate::dashboard) async fn enable_destination(here: Opened) -> Result<Response, AppError> {
    set_enabled(&here, true).await?;
    Ok(here.done("enabled"))
}

/// `POST /settings/destinations/{key}/disable`.
pub(in crate::dashboard) async fn disable_destination(here: Opened) -> Result<Response, AppError> {
    set_enabled(&here, false).await?;
    Ok(here.done("disabled"))
}

async fn set_enabled(here: &Opened, enabled: bool) -> Result<(), AppError> {
    let (state, id) = (&here.state, &here.found.id);
    delivery::set_enabled(&state.store, &state.settings, here.viewer.now, id, enabled).await?;
    state.wakeups.delivery_queued.notify_one();
    Ok(())
}

/// `POST /settings/destinations/{key}/delete`.
pub(in crate::dashboard) async fn delete_destination(
    here: Opened,
    form: FormData,
) -> Result<Response, AppError> {
    if here.found.from_environment {
        return Err(AppError::new(
            StatusCode::CONFLICT,
            "The environment variable CLICKSTAMP_ANYTRACK_URL sets this destination. Remove it there first, or disable it here.",
        ));
    }
    if !form.is_on("sure") {
        return Err(AppError::bad_request("Tick the box beside the button to delete it."));
    }
    let (state, id) = (&here.state, &here.found.id);
    delivery::delete_destination(&state.store, &state.settings, here.viewer.now, id).await?;
    Ok(page::see_other(&here.viewer.link("/settings/destinations").to_string()))
}

/// `POST /settings/destinations/{key}/rotate`: creates a new signing secret and shows it once.
pub(in crate::dashboard) async fn rotate_secret(mut here: Opened) -> Result<Response, AppError> {
    let (state, now) = (&here.state, here.viewer.now);
    let secret = destination::new_secret();
    let new = Secret::new(secret.clone());
    settings::rotate_signing_secret(&state.store, &state.settings, now, &here.found, new).await?;
    if let Some(found) = state.settings.current().destination(&here.found.id) {
        here.found = Destination::clone(found);
    }
    here.show(Draft { secret: Some(secret), ..Draft::of(&here.found) }).await
}

/// `POST /settings/destinations/{key}/restore`: saves the options of an earlier revision again.
pub(in crate::dashboard) async fn restore_version(
    here: Opened,
    form: FormData,
) -> Result<Response, AppError> {
    let (state, by) = (&here.state, &here.viewer.user.email);
    let number: i64 = form.text("revision").parse().unwrap_or(0);
    let history = settings::revisions(&state.store, &here.found.id).await?;
    let earlier = history.into_iter().find(|entry| entry.number == number);
    let earlier = earlier.ok_or_else(|| AppError::not_found("Version not found."))?;
    let old = Destination { options: earlier.options, ..here.found.clone() };
    settings::save_destination(&state.store, &state.settings, here.viewer.now, &old, by).await?;
    Ok(here.done("restored"))
}

/// `POST /settings/destinations/{key}/retry`: queues the failed deliveries of the last days again.
pub(in crate::dashboard) async fn retry_failed(
    here: Opened,
    form: FormData,
) -> Result<Response, AppError> {
    let chosen = delivery::Chosen {
        destination_id: here.found.id.clone(),
        reason: Some(form.text("reason")).filter(|reason| !reason.is_empty()),
        since: since(&here, &form),
    };
    delivery::retry_all(&here.state.store, here.viewer.now, &chosen).await?;
    here.state.wakeups.delivery_queued.notify_one();
    Ok(here.done("again"))
}

/// `POST /settings/destinations/{key}/past`: queues conversions from before the destination was added.
pub(in crate::dashboard) async fn queue_past(
    here: Opened,
    form: FormData,
) -> Result<Response, AppError> {
    let (state, found) = (&here.state, &here.found);
    let since = since(&here, &form);
    let past = report::past(&state.store, &found.id, &here.viewer.site.id, since).await?;
    let snapshot = state.settings.current();
    let stopwatch = Clock::stopwatch();
    for ids in past.ids.chunks(PAST_AT_A_TIME) {
        // The page still offers the rest.
        if stopwatch.elapsed() > PAST_PATIENCE {
            break;
        }
        conversion::queue_past(&state.store, ledger(state, &snapshot), found, ids).await?;
    }
    state.wakeups.delivery_queued.notify_one();
    Ok(here.done("again"))
}

/// The beginning of the days that the form names.
fn since(here: &Opened, form: &FormData) -> Timestamp {
    let days: u32 = form.text("days").parse().unwrap_or(30);
    here.viewer.now.minus(DAY * days.clamp(1, 366))
}
