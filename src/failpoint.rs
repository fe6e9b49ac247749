//! Points at which crash tests halt the process in order to kill it there. Takes the name of a
//! point from the environment variable `HALT_AT`. A task that reaches that point logs it and never
//! continues. Release builds contain none of this.

/// Returns at once, or never if `HALT_AT` is `place`.
#[cfg(debug_assertions)]
pub(crate) async fn pass(place: &str) {
    use std::sync::LazyLock;

    #[expect(clippy::disallowed_methods, reason = "only for tests, so it is not a setting")]
    static HALT_AT: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("HALT_AT").ok());
    if HALT_AT.as_deref() == Some(place) {
        tracing::warn!("halted at {place}");
        std::future::pending::<()>().await;
    }
}

/// Returns at once.
#[cfg(not(debug_assertions))]
pub(crate) async fn pass(_place: &str) {}
