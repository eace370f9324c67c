//! Futures that run side by side and are taken one by one as they complete.
//!
//! Polls every pending future in index order with the caller's own waker: no inner wakers and no shuffling, so the same
//! history gives the same order at any width, inside a workflow as outside. `futures::FuturesUnordered` gives neither.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
};

/// A set of requested steps. Dropping it with futures pending breaks the contract of [`crate::Steps`]: drain it.
pub struct Completions<F> {
    pending: Vec<Option<Pin<Box<F>>>>,
}

impl<F: Future> Completions<F> {
    /// Takes the futures; their index is their position.
    pub fn new(futures: impl IntoIterator<Item = F>) -> Self {
        Self { pending: futures.into_iter().map(|future| Some(Box::pin(future))).collect() }
    }

    /// The next future to complete and its index; `None` when all have.
    pub async fn next(&mut self) -> Option<(usize, F::Output)> {
        if self.pending.iter().all(Option::is_none) {
            return None;
        }
        poll_fn(|context| {
            for (index, slot) in self.pending.iter_mut().enumerate() {
                if let Some(future) = slot
                    && let Poll::Ready(output) = future.as_mut().poll(context)
                {
                    *slot = None;
                    return Poll::Ready(Some((index, output)));
                }
            }
            Poll::Pending
        })
        .await
    }
}
