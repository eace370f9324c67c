//! The text of an answer while it is written, for those who watch the plan: gathered for a moment and written as rows.
//!
//! Owns how much is gathered and how long a row may take. Nothing here can fail a call, and no call waits for it longer
//! than [`FLUSH_LIMIT`]: what the database does not take in time is dropped, which the numbers of the pieces show.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokenhub_domain::{CallNumber, Capability, Dialect, Operation, RunId, SendRequest, StepId, TenantId};
use tokenhub_store::{Delta, DeltaPlace, Store};
use tokio::{
    sync::{Notify, Semaphore},
    task::JoinHandle,
    time::timeout,
};

use super::{Sending, journaled::Held};
use crate::{World, clock, presence::Presence};

/// Text is gathered for this long: quick enough for a reader, and few rows.
const GATHERING: Duration = Duration::from_millis(50);
/// So much is not gathered any longer.
const PIECE_BYTES: usize = 4 * 1024;
/// So much waits for the database; beyond it text is dropped.
const WAITING_BYTES: usize = 256 * 1024;
/// A row that takes longer is given up.
const WRITE_LIMIT: Duration = Duration::from_secs(2);
/// How long a call that has ended waits for its last pieces, so that they come before its end. Its answer is not in the
/// journal meanwhile.
const FLUSH_LIMIT: Duration = Duration::from_millis(250);

/// Whose turn it is to write pieces. One call of a process at a time: a journal entry that waits for the same connection
/// waits for one piece and not for those of every call.
#[derive(Clone, Debug)]
pub(crate) struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

/// The text of one call on its way to the database.
pub(super) struct Showing {
    shared: Arc<Shared>,
    writer: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// There is more to write, or the call has ended.
    more: Notify,
}

#[derive(Default)]
struct Waiting {
    text: String,
    /// The number of the next piece.
    seq: u64,
    /// Text behind what waits was dropped.
    has_lost: bool,
    is_over: bool,
}

/// The place of a call's pieces, and how they get there.
struct Writer {
    store: Store,
    turns: Turns,
    tenant: TenantId,
    run_id: RunId,
    step: StepId,
    call: CallNumber,
    shared: Arc<Shared>,
}

impl Showing {
    /// Of a call whose run shows what is written and whose provider streams; nothing of any other.
    pub(super) fn of<P: Presence>(sending: &Sending<'_, P>, held: Option<&Held>) -> Option<Self> {
        let Sending { world, run, request, .. } = sending;
        let call = held.and_then(|held| held.call).filter(|_| is_streamed(world, request))?;
        let shared = Arc::<Shared>::default();
        let writer = Writer {
            store: world.store.clone(),
            turns: world.turns.clone(),
            tenant: run.tenant.clone(),
            run_id: run.run_id.clone(),
            step: request.step.clone(),
            call,
            shared: Arc::clone(&shared),
        };
        Some(Self { shared, writer: tokio::spawn(writer.write_all()) })
    }

    /// Takes the next piece of the text; never waits.
    pub(super) fn show(&self, text: &str) {
        let is_enough = {
            let mut waiting = self.shared.lock();
            if waiting.text.len() >= WAITING_BYTES {
                waiting.has_lost = true;
                return;
            }
            let was_empty = waiting.text.is_empty();
            waiting.text.push_str(text);
            was_empty || waiting.text.len() >= PIECE_BYTES
        };
        if is_enough {
            self.shared.more.notify_one();
        }
    }

    /// The call has ended: what is left of its text is written at once.
    pub(super) fn close(&self) {
        self.shared.close();
    }

    /// Waits until it is written, and says how many pieces there were, lost ones included.
    pub(super) async fn end(mut self) -> u64 {
        self.close();
        // What is not there by then comes too late for everybody.
        if timeout(FLUSH_LIMIT, &mut self.writer).await.is_err() {
            tracing::debug!("the last deltas of a step are late");
        }
        let waiting = self.shared.lock();
        waiting.seq + u64::from(!waiting.text.is_empty()) + u64::from(waiting.has_lost)
    }
}

impl Drop for Showing {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Every change is complete in itself, so a panic elsewhere leaves nothing half-written.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.lock().is_over = true;
        self.more.notify_one();
    }

    fn is_over(&self) -> bool {
        self.lock().is_over
    }

    /// What is written next, and its number. Text that was dropped behind it has the number after it.
    fn take(&self) -> Option<(u64, String)> {
        let mut waiting = self.lock();
        let text = std::mem::take(&mut waiting.text);
        if text.is_empty() {
            return None;
        }
        let seq = waiting.seq;
        waiting.seq += 1 + u64::from(std::mem::take(&mut waiting.has_lost));
        Some((seq, text))
    }

    /// Waits until there is a text; false when none comes any more.
    async fn has_text(&self) -> bool {
        loop {
            let (is_empty, is_over) = {
                let waiting = self.lock();
                (waiting.text.is_empty(), waiting.is_over)
            };
            match (is_empty, is_over) {
                (true, true) => return false,
                (true, false) => self.more.notified().await,
                (false, _) => return true,
            }
        }
    }

    /// Waits for so much text that it is worth a row.
    async fn gather(&self) {
        let enough = async {
            loop {
                {
                    let waiting = self.lock();
                    if waiting.is_over || waiting.text.len() >= PIECE_BYTES {
                        return;
                    }
                }
                self.more.notified().await;
            }
        };
        // Most pieces are what came until then.
        let _ = timeout(GATHERING, enough).await;
    }
}

impl Writer {
    async fn write_all(self) {
        while self.shared.has_text().await {
            self.shared.gather().await;
            // Whoever has ended is waited for, and has no more than this piece.
            let _turn = if self.shared.is_over() { None } else { self.turns.0.acquire().await.ok() };
            let Some((seq, text)) = self.shared.take() else { continue };
            let place = DeltaPlace { step: self.step.clone(), call: self.call, seq };
            let deltas = self.store.plan_deltas();
            let write = deltas.append((&self.tenant, &self.run_id), Delta { place, text }, clock::now());
            match timeout(WRITE_LIMIT, write).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, run = %self.run_id, "a delta is lost");
                }
                Err(_) => tracing::debug!(run = %self.run_id, "a delta is lost: the database is slow"),
            }
        }
    }
}

/// Only texts are shown, of deployments that are not known to give them as a whole only.
fn is_streamed(world: &World, request: &SendRequest) -> bool {
    let catalogue = world.catalogue.load();
    let lacks_streams = |model: &tokenhub_domain::Model| model.capabilities.missing(&[Capability::Streaming]).is_some();
    request.operation == Operation::Chat
        && request.dialect == Dialect::Chat
        && !catalogue.model(&request.deployment).is_some_and(lacks_streams)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn showing() -> (Showing, Arc<Shared>) {
        let shared = Arc::<Shared>::default();
        (Showing { shared: Arc::clone(&shared), writer: tokio::spawn(async {}) }, shared)
    }

    #[tokio::test]
    async fn pieces_are_numbered_and_what_is_dropped_leaves_a_gap() {
        let (showing, shared) = showing();
        showing.show("a");
        showing.show("b");
        assert_eq!(shared.take(), Some((0, "ab".to_owned())));
        assert_eq!(shared.take(), None);
        let large = "x".repeat(WAITING_BYTES);
        for text in [&*large, "lost", "lost too"] {
            showing.show(text);
        }
        assert_eq!(shared.take(), Some((1, large)));
        showing.show("c");
        assert_eq!(shared.take(), Some((3, "c".to_owned())));
        showing.show("late");
        assert_eq!(showing.end().await, 5);
    }

    #[tokio::test]
    async fn a_text_is_gathered_for_a_moment_unless_it_is_long_or_the_call_is_over() {
        let (showing, shared) = showing();
        showing.show("a");
        assert!(shared.has_text().await);
        let at_once = Duration::from_millis(5);
        assert!(timeout(at_once, shared.gather()).await.is_err());
        showing.show(&"x".repeat(PIECE_BYTES));
        assert!(timeout(at_once, shared.gather()).await.is_ok());
        shared.take();
        showing.show("b");
        drop(showing);
        assert!(timeout(at_once, shared.gather()).await.is_ok());
        assert!(shared.has_text().await);
        shared.take();
        assert!(!shared.has_text().await);
    }
}
