//! The stages of an ordered stop. Takes what `app` decides; returns to every connection and worker how far the stop has come.
//! Stages only go forward.

use tokio::sync::watch;

/// How far an ordered stop has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// No stop was asked for.
    #[default]
    Serving,
    /// Nothing new is begun; answers close their connections.
    Draining,
    /// Connections without a request are closed too.
    Closing,
    /// What has not ended by now is cut off.
    Cutting,
}

/// Resolves when that stage is reached, or the one who would say so is gone.
pub(crate) async fn reached(stages: &mut watch::Receiver<Stage>, stage: Stage) {
    // An error means that the sender is gone, which is the end too.
    let _ = stages.wait_for(|now| *now >= stage).await;
}
