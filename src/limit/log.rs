//! Log lines that strangers can cause, limited. Takes the kind of line and what it is about; returns whether to write it now.
//! At most a few lines of a kind are written in ten seconds; how many were left out is written afterwards, so a flood is visible and cheap.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::clock::Clock;

/// Lines of one kind about one thing within [`WINDOW`].
const LINES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(10);
/// Kinds and things counted separately; further ones share one count per kind.
const MAX_KEYS: usize = 256;

type Key = (&'static str, String);

#[derive(Debug)]
struct Window {
    began: Instant,
    written: u32,
    left_out: u64,
}

/// The windows of this process's log.
static WINDOWS: Mutex<BTreeMap<Key, Window>> = Mutex::new(BTreeMap::new());

/// Counts one line of a kind about something; true when it is to be written. `about` is ours: a source's key, a route.
pub(crate) fn admits(kind: &'static str, about: &str) -> bool {
    count(
        &mut WINDOWS.lock().unwrap_or_else(PoisonError::into_inner),
        kind,
        about,
        Clock::stopwatch(),
    )
}

fn count(
    windows: &mut BTreeMap<Key, Window>,
    kind: &'static str,
    about: &str,
    now: Instant,
) -> bool {
    let mut key = (kind, about.to_owned());
    if windows.len() >= MAX_KEYS && !windows.contains_key(&key) {
        key.1 = "others".to_owned();
    }
    let window = windows.entry(key).or_insert(Window { began: now, written: 0, left_out: 0 });
    if now.duration_since(window.began) >= WINDOW && window.left_out == 0 {
        *window = Window { began: now, written: 0, left_out: 0 };
    }
    if window.written < LINES {
        window.written += 1;
        return true;
    }
    window.left_out += 1;
    false
}

/// Writes how many lines were left out in windows that are over. Called every few seconds.
pub(crate) fn report_left_out() {
    let over = end_windows(
        &mut WINDOWS.lock().unwrap_or_else(PoisonError::into_inner),
        Clock::stopwatch(),
        WINDOW,
    );
    for ((kind, about), left_out) in over {
        tracing::warn!(about, left_out, "{kind}: further lines like the last ones were left out");
    }
}

/// The same of all windows: before the process ends.
pub(crate) fn report_all_left_out() {
    let over = end_windows(
        &mut WINDOWS.lock().unwrap_or_else(PoisonError::into_inner),
        Clock::stopwatch(),
        Duration::ZERO,
    );
    for ((kind, about), left_out) in over {
        tracing::warn!(about, left_out, "{kind}: further lines like the last ones were left out");
    }
}

fn end_windows(
    windows: &mut BTreeMap<Key, Window>,
    now: Instant,
    after: Duration,
) -> Vec<(Key, u64)> {
    let mut over = Vec::new();
    windows.retain(|key, window| {
        let is_over = now.duration_since(window.began) >= after;
        if is_over && window.left_out > 0 {
            over.push((key.clone(), window.left_out));
        }
        !is_over
    });
    over
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_ten_lines_and_a_number() {
        let (mut windows, now) = (BTreeMap::new(), Clock::stopwatch());
        let written = (0..1000).filter(|_| count(&mut windows, "bad", "main", now)).count();
        assert_eq!(written, 10);
        assert!(count(&mut windows, "bad", "other", now), "another thing has lines of its own");
        assert_eq!(end_windows(&mut windows, now, WINDOW), [], "the window is not over");
        let over = end_windows(&mut windows, now + WINDOW, WINDOW);
        assert_eq!(over, [(("bad", "main".to_owned()), 990)]);
        assert!(count(&mut windows, "bad", "main", now + WINDOW), "and then it begins again");
    }

    #[test]
    fn things_without_end_share_one_count() {
        let (mut windows, now) = (BTreeMap::new(), Clock::stopwatch());
        for n in 0..10_000 {
            count(&mut windows, "bad", &n.to_string(), now);
        }
        assert!(windows.len() <= MAX_KEYS + 1);
    }
}
