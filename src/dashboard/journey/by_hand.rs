//! Matching a payment by hand. Takes a click ID, or a request to undo the match; returns the journey page, matched or
//! with an error. The page shows who made the match and when, and the match can always be undone.

use axum::extract::{Form as Sent, Path, State};
use axum::response::Response;
use serde::Deserialize;

use crate::clock::Timestamp;
use crate::conversion::{self, Ledger, MatchedByHand};
use crate::dashboard::frame::Viewer;
use crate::dashboard::page;
use crate::domain::MatchState;
use crate::error::AppError;
use crate::report::Conversion;
use crate::state::AppState;

/// Query parameters that show the form again with an error.
#[derive(Default, Deserialize)]
pub(in crate::dashboard) struct Tried {
    /// The error code.
    wrong: Option<String>,
    /// The click ID that was entered.
    click_id: Option<String>,
}

/// The form on the journey page.
pub(super) struct Form {
    /// The URL that a click ID is posted to.
    pub(super) action: String,
    /// The URL that undoes the match; empty if the payment is not matched by hand.
    pub(super) undo: String,
    /// `ada@example.org matched it by hand, …`; empty if the payment is not matched by hand.
    pub(super) made: String,
    pub(super) is_open: bool,
    pub(super) value: String,
    pub(super) wrong: String,
    /// Link to the visits.
    pub(super) visits: String,
}

impl Form {
    pub(super) fn new(viewer: &Viewer, found: &Conversion, tried: Tried) -> Self {
        let path =
            |verb: &str| viewer.link(&format!("/conversions/{}/{verb}", found.row.id)).to_string();
        let wrong = match tried.wrong.as_deref() {
            Some("no_click_id") => {
                "This isn’t a Clickstamp click ID. Click IDs begin with ck_; the list of visits shows them."
            }
            Some("no_visit") => "No visit with this click ID was found.",
            Some(_) | None => "",
        };
        let made = found.by_hand.as_ref().map(|by| {
            let at = viewer.times.second(Timestamp::from_ms(by.made_at_ms)).title;
            format!(
                "{} matched it by hand, {at}. Later Stripe events don’t change that.",
                by.made_by
            )
        });
        Self {
            action: path("match"),
            undo: if made.is_some() { path("unmatch") } else { String::new() },
            made: made.unwrap_or_default(),
            is_open: found.row.match_state == MatchState::Unmatched || !wrong.is_empty(),
            value: tried.click_id.unwrap_or_default(),
            wrong: wrong.to_owned(),
            visits: viewer.link("/visits").to_string(),
        }
    }
}

#[derive(Deserialize)]
pub(in crate::dashboard) struct Wanted {
    click_id: String,
}

/// `POST /conversions/{id}/match`.
pub(in crate::dashboard) async fn match_conversion(
    State(state): State<AppState>,
    viewer: Viewer,
    Path(id): Path<String>,
    Sent(wanted): Sent<Wanted>,
) -> Result<Response, AppError> {
    let snapshot = state.settings.current();
    let ledger = Ledger {
        keys: &state.click_ids,
        settings: &snapshot,
        later: Some(&state.settings),
        now: viewer.now,
    };
    let (store, who) = (&state.store, viewer.user.email.as_str());
    let done = conversion::match_by_hand(store, ledger, &id, &wanted.click_id, who).await?;
    let here = viewer.link(&format!("/conversions/{id}"));
    let wrong = match done {
        MatchedByHand::Done => {
            state.wakeups.delivery_queued.notify_one();
            return Ok(page::see_other(&here.to_string()));
        }
        MatchedByHand::NoConversion => {
            return Err(AppError::not_found("Conversion not found."));
        }
        MatchedByHand::NoClickId => "no_click_id",
        MatchedByHand::NoVisit => "no_visit",
    };
    let typed: String = wanted.click_id.chars().take(80).collect();
    let here = here.with("wrong", wrong).with("click_id", typed);
    Ok(page::see_other(&format!("{here}#by-hand")))
}

/// `POST /conversions/{id}/unmatch`.
pub(in crate::dashboard) async fn take_back_match(
    State(state): State<AppState>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, AppError> {
    let snapshot = state.settings.current();
    let ledger = Ledger {
        keys: &state.click_ids,
        settings: &snapshot,
        later: Some(&state.settings),
        now: viewer.now,
    };
    if !conversion::take_back_match(&state.store, ledger, &id).await? {
        return Err(AppError::not_found("This conversion isn’t matched by hand."));
    }
    state.wakeups.delivery_queued.notify_one();
    Ok(page::see_other(&viewer.link(&format!("/conversions/{id}")).to_string()))
}
