//! The pages of destinations. Takes forms; returns the list, a destination's page with a preview of its message, and
//! changed records. A mapping that fails on a recorded conversion is not saved. URLs, header values and secrets are not
//! shown, except a new secret once.

mod actions;
mod form;
mod headers;
mod list;
mod message;
mod options;

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

pub(super) use self::actions::{
    delete_destination, disable_destination, enable_destination, load_template, preview_message,
    queue_past, restore_version, retry_failed, rotate_secret, save_destination,
    send_test_conversion,
};
use self::list::health;
pub(super) use self::list::{add_destination, list_destinations};
use self::message::{MessagePart, message, samples};
use self::options::{Drawn, Shown};
use super::form::FormData;
use super::frame::{Frame, Tab, Viewer};
use super::page;
use super::views::numbers::{counted, totals};
use super::views::times::Moment;
use super::views::{Chip, Field, Link, words};
use crate::conversion::Ledger;
use crate::destination::mapping::Fault;
use crate::destination::{self, Tried, Unsent};
use crate::domain::{AttemptOutcome, DeliveryReason, Word as _};
use crate::error::AppError;
use crate::report::{self, DestinationTotals};
use crate::settings::{self, Destination, Snapshot};
use crate::state::AppState;

const DAY: Duration = Duration::from_secs(86_400);

fn ledger<'a>(state: &'a AppState, snapshot: &'a Arc<Snapshot>) -> Ledger<'a> {
    Ledger {
        keys: &state.click_ids,
        settings: snapshot,
        later: Some(&state.settings),
        now: state.clock.now(),
    }
}

const OWN_ADDRESS: &str = "This is Clickstamp’s own URL. Conversions would be sent in a loop.";

const ADDED: &str = "Destination added. It receives all conversions from now on. Use “Send a test conversion” below to check it.";

#[derive(Deserialize)]
pub(super) struct PageQuery {
    done: Option<String>,
    days: Option<u64>,
}

#[derive(Template)]
#[template(path = "destination.html")]
struct DestinationPage {
    frame: Frame,
    name: String,
    action: Link,
    back: String,
    log: String,
    done: Option<String>,
    /// General errors; `Some` if nothing was saved.
    faults: Option<Vec<String>>,
    state: Chip,
    note: String,
    address: String,
    is_anytrack: bool,
    is_signed: bool,
    from_environment: bool,
    enabled: bool,
    form: Fields,
    message: MessagePart,
    /// A new signing secret, shown once.
    secret: Option<String>,
    secrets: usize,
    tried: Option<TriedItem>,
    given_up: Vec<(String, String, String, String)>,
    past: String,
    past_count: usize,
    days: u64,
    owes: String,
    history: Vec<HistoryItem>,
}

/// The form. Fields have what was typed, or what is stored, and their errors.
struct Fields {
    name: Field,
    url: Field,
    /// All sites if there are several: key, name, whether its conversions are sent.
    sites: Vec<(String, String, bool)>,
    sites_field: Field,
    /// Errors of the mapping as a whole.
    rows: Field,
    events: Vec<Shown>,
    limits: Vec<Shown>,
    message: Vec<Shown>,
    sending: Vec<Shown>,
    anytrack: Vec<Shown>,
    registration: Registration,
}

/// The switch of the experimental registration of visits with AnyTrack.
struct Registration {
    is_open: bool,
    options: Vec<Shown>,
    collect_base: String,
    /// Visits of the last month, which AnyTrack would count as sessions.
    month_visits: String,
}

/// The result of a test conversion.
struct TriedItem {
    end: Chip,
    note: String,
    /// `POST https://…k7Qe`.
    request: String,
    body: String,
    /// `200 OK`; empty if there was no response.
    status: String,
    answer: String,
}

struct HistoryItem {
    number: i64,
    at: Moment,
    by: String,
    what: String,
    /// Labels of the other options that differ from now.
    differs: String,
}

fn fields(of: &Destination, settings: &Snapshot, form: &FormData, month_visits: String) -> Fields {
    let several = settings.sites.iter().filter(|_| settings.sites.len() > 1);
    let sites = several.map(|site| {
        let keys = &of.options.events.sites;
        let stored = if keys.is_empty() { site.id == of.site_id } else { keys.contains(&site.key) };
        let is_on = form.tick(&format!("site_{}", site.key), stored);
        (site.key.clone(), site.name.clone(), is_on)
    });
    let part = |part| options::shown(part, of, form);
    let collect_base = form.field("anytrack_collect_base", &*of.options.anytrack.collect_base);
    Fields {
        name: form.field("name", of.name.clone()),
        url: form.field("url", ""),
        sites: sites.collect(),
        sites_field: form.field("sites", ""),
        rows: form.field("rows", ""),
        events: part(options::EVENTS),
        limits: part(options::LIMITS),
        message: part(options::MESSAGE),
        sending: part(options::SENDING),
        anytrack: part(options::ANYTRACK),
        registration: Registration {
            is_open: form.tick("registers_visits", of.options.anytrack.registers_visits)
                || collect_base.error.is_some(),
            options: part(options::REGISTRATION),
            collect_base: collect_base.value,
            month_visits,
        },
    }
}

/// The destination that the URL names, and who views it.
pub(super) struct Opened {
    state: AppState,
    viewer: Viewer,
    found: Destination,
}

impl FromRequestParts<AppState> for Opened {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Response> {
        let viewer = Viewer::from_request_parts(parts, state).await?;
        let key = Path::<String>::from_request_parts(parts, state).await;
        let Path(key) = key.map_err(IntoResponse::into_response)?;
        let snapshot = state.settings.current();
        let found = snapshot.destinations_of(&viewer.site.id).find(|found| found.key == key);
        match found.cloned() {
            Some(found) => Ok(Self { state: state.clone(), viewer, found }),
            None => Err(AppError::not_found("Destination not found.").into_response()),
        }
    }
}

impl Opened {
    /// The destination's page, with what is shown beside the record.
    async fn show(&self, draft: Draft) -> Result<Response, AppError> {
        page::show(&destination_page(&self.state, &self.viewer, &self.found, draft).await?)
    }

    /// Leads back to the page after an action.
    fn done(&self, what: &str) -> Response {
        let here = self.viewer.link(&format!("/settings/destinations/{}", self.found.key));
        page::see_other(&here.with("done", what).to_string())
    }
}

/// `GET /settings/destinations/{key}`.
pub(super) async fn show_destination(
    here: Opened,
    Query(query): Query<PageQuery>,
) -> Result<Response, AppError> {
    let done = match query.done.as_deref() {
        Some("added") => Some(ADDED),
        Some("saved") => Some("Saved. Deliveries already queued keep their message."),
        Some("enabled") => Some("Enabled. Paused deliveries are sent now, oldest first."),
        Some("disabled") => Some("Disabled. Its deliveries are paused; nothing is lost."),
        Some("restored") => Some("The earlier version was restored."),
        Some("again") => Some("Queued. They are sent as fast as the rate limit allows."),
        _ => None,
    };
    let done = done.map(str::to_owned);
    here.show(Draft { days: query.days, done, ..Draft::of(&here.found) }).await
}

/// What the page shows in addition to the record.
struct Draft {
    destination: Destination,
    /// The form as typed, if it was not saved.
    form: FormData,
    row_faults: Vec<Fault>,
    secret: Option<String>,
    tried: Option<TriedItem>,
    done: Option<String>,
    days: Option<u64>,
}

impl Draft {
    /// Whether the form has errors, so that nothing may be saved.
    fn is_refused(&self) -> bool {
        !self.form.is_right() || !self.row_faults.is_empty()
    }

    fn of(found: &Destination) -> Self {
        Self {
            destination: found.clone(),
            form: FormData::default(),
            row_faults: Vec::new(),
            secret: None,
            tried: None,
            done: None,
            days: None,
        }
    }
}

async fn destination_page(
    state: &AppState,
    viewer: &Viewer,
    found: &Destination,
    draft: Draft,
) -> Result<DestinationPage, AppError> {
    let none = DestinationTotals::default();
    let sums = report::destination_totals(&state.store, &viewer.site.id).await?;
    let sum = sums.iter().find(|sum| sum.destination_id == found.id).unwrap_or(&none);
    let down = report::down(&state.store).await?;
    let down = down.iter().find(|(id, _)| *id == found.id).map(|(_, down)| down);
    let (chip, note) = health(viewer, found, sum, down);
    let days = draft.days.unwrap_or(30).clamp(1, 366);
    let since = viewer.now.minus(DAY * u32::try_from(days).unwrap_or(30));
    let first = viewer.site.currency;
    let given_up = report::given_up(&state.store, &found.id, since).await?;
    let past = report::past(&state.store, &found.id, &viewer.site.id, since).await?;
    let log = viewer.link("/deliveries").with("destination", found.key.as_str());
    let samples = samples(state, viewer, &draft.destination).await?;
    let history = settings::revisions(&state.store, &found.id).await?;
    let sends = |pending: i64| counted(pending, "delivery is pending", "deliveries are pending");
    Ok(DestinationPage {
        frame: viewer.frame(state, Tab::Settings).await?,
        name: found.name.clone(),
        action: viewer.link(&format!("/settings/destinations/{}", found.key)),
        back: viewer.link("/settings/destinations").to_string(),
        log: log.to_string(),
        done: draft.done,
        state: chip,
        note,
        address: settings::mask_url(&found.url),
        is_anytrack: found.is_anytrack(),
        is_signed: destination::kind(found.kind).is_signed,
        from_environment: found.from_environment,
        enabled: found.enabled,
        form: fields(
            &draft.destination,
            &state.settings.current(),
            &draft.form,
            month_visits(state, viewer, found).await?,
        ),
        message: message(&draft.destination, &draft.form, &draft.row_faults, &samples).await,
        faults: (!draft.form.is_right()).then(|| {
            let marked = draft.form.has_marked_fields();
            let marked = marked.then(|| "Correct the marked fields, then save again.".to_owned());
            marked.into_iter().chain(draft.form.general).collect()
        }),
        secret: draft.secret,
        secrets: found.secrets.len(),
        tried: draft.tried,
        given_up: given_up
            .iter()
            .map(|group| {
                let link = log.with("state", "given_up").with("reason", group.reason.as_str());
                (
                    group.reason.clone(),
                    words::why(DeliveryReason::parse(&group.reason)).to_owned(),
                    format!(
                        "{} ({})",
                        counted(group.count, "delivery", "deliveries"),
                        totals(&group.money, first)
                    ),
                    link.to_string(),
                )
            })
            .collect(),
        past: format!(
            "{} ({})",
            counted(
                i64::try_from(past.ids.len()).unwrap_or(0),
                "matched conversion",
                "matched conversions"
            ),
            totals(&past.money, first)
        ),
        past_count: past.ids.len(),
        days,
        owes: match sum.pending_money.is_empty() {
            true => sends(sum.pending + sum.held),
            false => {
                format!("{} ({})", sends(sum.pending + sum.held), totals(&sum.pending_money, first))
            }
        },
        history: history
            .into_iter()
            .filter(|entry| entry.number != found.revision)
            .map(|entry| HistoryItem {
                number: entry.number,
                at: viewer.times.short(entry.saved_at, viewer.now),
                by: entry.saved_by,
                differs: options::differences(found, entry.options.clone()).join(", "),
                what: match &entry.options.message.rows {
                    Some(rows) => {
                        counted(i64::try_from(rows.len()).unwrap_or(0), "field", "fields")
                    }
                    None => "standard message".to_owned(),
                },
            })
            .collect(),
    })
}

async fn month_visits(
    state: &AppState,
    viewer: &Viewer,
    found: &Destination,
) -> Result<String, AppError> {
    if !found.is_anytrack() {
        return Ok(String::new());
    }
    let period = report::Period { from: viewer.now.minus(DAY * 30), to: viewer.now };
    let visits = report::visits_in(&state.store, &viewer.scope(), period).await?;
    Ok(counted(visits, "visit", "visits"))
}

fn tried_item(found: &Destination, tried: Result<Tried, Unsent>) -> TriedItem {
    let address = settings::mask_url(&found.url);
    let unsent = |note: String| TriedItem {
        end: Chip::bad("Not sent"),
        note,
        request: String::new(),
        body: String::new(),
        status: String::new(),
        answer: String::new(),
    };
    let tried = match tried {
        Ok(tried) => tried,
        Err(Unsent::Skipped(skip)) => return unsent(words::skipped(skip).to_owned()),
        Err(Unsent::Broken(error)) => return unsent(error),
    };
    let is_query = tried.message.content_type == destination::IN_THE_URL;
    let (status, answer) = tried.answer.unwrap_or_default();
    TriedItem {
        end: match tried.outcome {
            AttemptOutcome::Accepted => Chip::ok("Accepted"),
            AttemptOutcome::Retry => Chip::wait("Temporary error"),
            AttemptOutcome::Refused => Chip::bad("Rejected"),
            AttemptOutcome::Blocked => Chip::bad("Not sent"),
        },
        note: tried.error.unwrap_or_default(),
        request: format!("{} {address}", if is_query { "GET" } else { "POST" }),
        body: tried.message.body,
        status: if status == 0 { String::new() } else { words::http_status(i64::from(status)) },
        answer,
    }
}
