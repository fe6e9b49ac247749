//! The question whether a payment is the receipt of another one. Takes a conversion; shows the question or the answer
//! with a button, and saves the user's answer. The page shows who answered and when, and the answer can be undone.

use axum::extract::{Path, State};
use axum::response::Response;

use crate::clock::Timestamp;
use crate::conversion;
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
    /// What the button does, in the URL that it posts to.
    pub(super) verb: &'static str,
    pub(super) button: &'static str,
}

/// The question about a conversion that may be a receipt, or the answer that was saved.
pub(super) fn question(viewer: &Viewer, found: &Conversion) -> Option<Question> {
    if let Some(by) = &found.duplicate {
        let at = viewer.times.second(Timestamp::from_ms(by.made_at_ms)).title;
        return Some(Question {
            title: "Duplicate (receipt)",
            text: format!(
                "{} marked it as the receipt of another payment, {at}. It is not counted as revenue.",
                by.made_by
            ),
            verb: "count-again",
            button: "Count it again",
        });
    }
    found.row.may_repeat.as_ref()?;
    let amount = found.row.amount.map_or_else(|| "the same amount".to_owned(), money);
    Some(Question {
        title: "Possible duplicate (receipt)",
        text: format!(
            "The same customer paid {amount} in a checkout within a day, and this invoice was paid outside Stripe. \
             If it is the receipt of that payment, count both only once. Messages already sent to destinations aren’t changed."
        ),
        verb: "count-once",
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
    let ledger = viewer.ledger(&state, &snapshot);
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
    let ledger = viewer.ledger(&state, &snapshot);
    if !conversion::count_again(&state.store, ledger, &id).await? {
        return Err(AppError::not_found("This conversion isn’t marked as a duplicate."));
    }
    state.wakeups.delivery_queued.notify_one();
    Ok(page::see_other(&viewer.link(&format!("/conversions/{id}")).to_string()))
}
