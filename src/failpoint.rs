//! Places where a test may halt the process, to kill it just there.
//! In: a place's name in the variable `HALT_AT`. Out: a line in the log, and whoever comes to that place stays there.
//! Promise: only debug builds hold any of it.

/// Goes on, unless a test wants the process to halt here.
#[cfg(debug_assertions)]
pub(crate) async fn pass(place: &str) {
    use std::sync::LazyLock;

    #[expect(clippy::disallowed_methods, reason = "for tests only, so it is no setting")]
    static HALT_AT: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("HALT_AT").ok());
    if HALT_AT.as_deref() == Some(place) {
        tracing::warn!("halted at {place}");
        std::future::pending::<()>().await;
    }
}

/// Goes on.
#[cfg(not(debug_assertions))]
pub(crate) async fn pass(_place: &str) {}
