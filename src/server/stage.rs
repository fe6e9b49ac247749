//! The stages of an orderly stop. Takes what `app` decides; returns the current stage to every
//! connection and worker.
//! Guarantees that stages only advance.

use tokio::sync::watch;

/// The stage of an orderly stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// No stop was requested.
    #[default]
    Serving,
    /// Nothing new is started; responses close their connections.
    Draining,
    /// Connections without a request are closed, too.
    Closing,
    /// Everything that has not ended is cut off.
    Cutting,
}

/// Resolves when the stage is reached, or the sender was dropped.
pub(crate) async fn reached(stages: &mut watch::Receiver<Stage>, stage: Stage) {
    // An error means that the sender was dropped, which means the end too.
    let _ = stages.wait_for(|now| *now >= stage).await;
}
