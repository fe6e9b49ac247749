//! A simulated AnyTrack. Takes the requests of the delivery worker; returns the scripted responses,
//! and 200 after those. It stores the newest accepted bodies unchanged, so that a page can show
//! them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::State;
use axum::http::StatusCode;
use tokio::sync::watch;

use crate::clock::{Clock, Timestamp};

/// Maximum number of stored messages.
const KEPT: usize = 50;

/// One message.
#[derive(Clone, Debug)]
pub(super) struct Received {
    pub(super) at: Timestamp,
    pub(super) body: String,
}

/// The simulated AnyTrack. Clones share its state.
#[derive(Clone, Debug)]
pub(super) struct AnyTrack(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    answers: Mutex<VecDeque<(u16, &'static str)>>,
    received: Mutex<VecDeque<Received>>,
    count: watch::Sender<usize>,
}

impl AnyTrack {
    pub(super) fn new() -> Self {
        Self(Arc::new(Shared {
            answers: Mutex::default(),
            received: Mutex::default(),
            count: watch::Sender::new(0),
        }))
    }

    /// Sets the next responses; after them it responds with 200 again.
    pub(super) fn answer_next(&self, answers: &[(u16, &'static str)]) {
        lock(&self.0.answers).extend(answers);
    }

    /// Clears the stored messages. Returns how many were accepted before.
    pub(super) fn forget(&self) -> usize {
        lock(&self.0.received).clear();
        self.0.count.send_replace(0)
    }

    /// The accepted messages, newest first.
    pub(super) fn received(&self) -> Vec<Received> {
        lock(&self.0.received).iter().rev().cloned().collect()
    }

    /// The number of accepted messages; receivers are notified of every change.
    pub(super) fn count(&self) -> watch::Receiver<usize> {
        self.0.count.subscribe()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves `POST /anytrack/collect/{slug}`.
pub(super) async fn take_conversion(
    State(anytrack): State<AnyTrack>,
    body: String,
) -> (StatusCode, &'static str) {
    let scripted = lock(&anytrack.0.answers).pop_front();
    if let Some((status, text)) = scripted {
        return (StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY), text);
    }
    {
        let mut received = lock(&anytrack.0.received);
        received.push_back(Received { at: Clock::system().now(), body });
        let surplus = received.len().saturating_sub(KEPT);
        received.drain(..surplus);
    }
    anytrack.0.count.send_modify(|count| *count += 1);
    (StatusCode::OK, r#"{"status":"ok"}"#)
}

/// Indents JSON, one line per value. Texts and numbers are not changed.
pub(super) fn indented(json: &str) -> String {
    let (mut text, mut depth, mut is_inside, mut is_escaped) =
        (String::new(), 0_usize, false, false);
    let line = |text: &mut String, depth: usize| {
        text.push('\n');
        text.extend(std::iter::repeat_n("  ", depth));
    };
    for char in json.chars() {
        if is_inside {
            text.push(char);
            is_inside = is_escaped || char != '"';
            is_escaped = char == '\\' && !is_escaped;
            continue;
        }
        match char {
            '{' | '[' => {
                depth += 1;
                text.push(char);
                line(&mut text, depth);
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut text, depth);
                text.push(char);
            }
            ',' => {
                text.push(char);
                line(&mut text, depth);
            }
            ':' => text.push_str(": "),
            '"' => {
                is_inside = true;
                text.push(char);
            }
            _ => text.push(char),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indenting_keeps_texts_and_digits() {
        let text = indented(r#"{"a":"x, \"y\": {\\","value":102.60}"#);
        assert_eq!(text, "{\n  \"a\": \"x, \\\"y\\\": {\\\\\",\n  \"value\": 102.60\n}");
    }
}
