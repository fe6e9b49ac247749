//! Matching a payment by hand. Takes a click ID, or a request to undo the match; returns the journey page, matched or
//! with an error. The page shows who made the match and when, and the match can always be undone.

use axum::extract::{Form as Sent, Path, State};
use axum::response::Response;
use serde::Deserialize;

use crate::clock::Timestamp;
use crate::conversion::{self, MatchedByHand};
use crate::dashboard::frame::Viewer;
use crate::dashboard::page;
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

impl Tried {
    /// The click ID that was entered.
    pub(super) fn value(&self) -> &str {
        self.click_id.as_deref().unwrap_or_default()
    }

    /// Why it was not taken.
    pub(super) fn error(&self) -> Option<&'static str> {
        match self.wrong.as_deref()? {
            "no_click_id" => Some(
                "This isn’t a Clickstamp click ID. Click IDs begin with ck_; the list of visits shows them.",
            ),
            "no_visit" => Some("No visit with this click ID was found."),
            _ => None,
        }
    }
}

/// `ada@example.org matched it by hand, …`, if that is how it was matched.
pub(super) fn made(viewer: &Viewer, found: &Conversion) -> Option<String> {
    let by = found.by_hand.as_ref()?;
    let at = viewer.times.second(Timestamp::from_ms(by.made_at_ms)).title;
    let who = &by.made_by;
    Some(format!("{who} matched it by hand, {at}. Later Stripe events don’t change that."))
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
    let ledger = viewer.ledger(&state, &snapshot);
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
    let ledger = viewer.ledger(&state, &snapshot);
    if !conversion::take_back_match(&state.store, ledger, &id).await? {
        return Err(AppError::not_found("This conversion isn’t matched by hand."));
    }
    state.wakeups.delivery_queued.notify_one();
    Ok(page::see_other(&viewer.link(&format!("/conversions/{id}")).to_string()))
}
