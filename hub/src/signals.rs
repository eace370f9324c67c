//! What the operator's signals mean: the first ends in order, the second at once, a hang-up is passed on.
//!
//! The API in this process hears a hang-up itself and reads its files again; the worker, in a group of its own, does not.

use std::{io, io::IsTerminal as _, sync::Arc};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Notify,
};
use tokio_util::sync::CancellationToken;

/// What the signals do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Signals {
    /// End in order.
    pub(crate) stop: CancellationToken,
    /// End at once.
    pub(crate) kill: CancellationToken,
    /// Read the files again.
    pub(crate) reload: Arc<Notify>,
}

impl Signals {
    /// Listens in the background, from now on.
    pub(crate) fn listen() -> io::Result<Self> {
        let signals = Self::default();
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let had_terminal = io::stdin().is_terminal();
        let ends = [signals.stop.clone(), signals.kill.clone()];
        tokio::spawn(async move {
            for end in ends {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
                end.cancel();
            }
        });
        let heard = signals.clone();
        tokio::spawn(async move {
            while hang_up.recv().await.is_some() {
                if had_terminal && !io::stdin().is_terminal() {
                    // The terminal was closed: nobody is left to press Ctrl-C.
                    heard.stop.cancel();
                    return;
                }
                heard.reload.notify_waiters();
            }
        });
        Ok(signals)
    }
}
