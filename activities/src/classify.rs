//! What to do after a failed call: the class table of `routing`, with jitter from this process.

use tokenhub_domain::{ClassifyRequest, NextMove};
use tokenhub_routing::Jitter;

/// The next move.
pub(crate) fn run(request: &ClassifyRequest) -> NextMove {
    tokenhub_routing::next_move(request, Jitter::new(rand::random::<f64>()))
}
