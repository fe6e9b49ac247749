//! The question whether a payment is the receipt of another one. Takes a conversion; shows the question or the answer
//! with a button, and saves the user's answer. The page shows who answered and when, and the answer can be undone.

use axum::extract::{Path, State};
use axum::response::Response;

use crate::clock::Timestamp;
use crate::conversion::{self, Ledger};
use crate::dashboard::frame::Viewer;
use crate::dashboard::page;
use crate::dashboard::views::numbers::money;
use crate::error::AppError;
use crate::report::Conversion;
use crate::state::AppState;

/// The question, or its answer.
pub(super) struct Question {
    pub(super) title: &'static str,
    pub(super) text: String,
    /// Link to the other payment; `None` if it no longer exists.
    pub(super) other: Option<String>,
    /// The URL that the button posts to.
    pub(super) action: String,
    pub(super) button: &'static str,
}

/// The question about a conversion that may be a receipt, or the answer that was saved.
pub(super) fn question(viewer: &Viewer, found: &Conversion) -> Option<Question> {
    let row = &found.row;
    let link = |path: String| viewer.link(&path).to_string();
    let other = row.may_repeat.as_ref().map(|id| link(format!("/conversions/{id}")));
    if let Some(by) = &found.duplicate {
        let at = viewer.times.second(Timestamp::from_ms(by.made_at_ms)).title;
        return Some(Question {
            title: "Duplicate (receipt)",
            text: format!(
                "{} marked it as the receipt of another payment, {at}. It is not counted as revenue.",
                by.made_by
            ),
            other,
            action: link(format!("/conversions/{}/count-again", row.id)),
            button: "Count it again",
        });
    }
    other.as_ref()?;
    let amount = row.amount.map_or_else(|| "the same amount".to_owned(), money);
    Some(Question {
        title: "Possible duplicate (receipt)",
        text: format!(
            "The same customer paid {amount} in a checkout within a day, and this invoice was paid outside Stripe. \
             If it is the receipt of that payment, count both only once. Messages already sent to destinations aren’t changed."
        ),
        other,
        action: link(format!("/conversions/{}/count-once", row.id)),
        button: "It’s a receipt: count it once",
    })
}

/// `POST /conversions/{id}/count-once`.
pub(in crate::dashboard) async fn count_once(
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
    if !conversion::count_once(&state.store, ledger, &id, &viewer.user.email).await? {
        return Err(AppError::not_found("No possible receipt with this ID was found."));
    }
    Ok(page::see_other(&viewer.link(&format!("/conversions/{id}")).to_string()))
}

/// `POST /conversions/{id}/count-again`.
pub(in crate::dashboard) async fn count_again(
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
    if !conversion::count_again(&state.store, ledger, &id).await? {
        return Err(AppError::not_found("This conversion isn’t marked as a duplicate."));
    }
    state.wakeups.delivery_queued.notify_one();
    Ok(page::see_other(&viewer.link(&format!("/conversions/{id}")).to_string()))
}
