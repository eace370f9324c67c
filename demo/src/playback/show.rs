//! Carries out a score on a connection: pauses, pieces, cuts and silence.
//!
//! Also decides how the call ended. As long as the guard lives and nothing was decided, dropping it means that the client
//! went away: the HTTP server drops the answer when the connection closes.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, unfold};
use http_body_util::{Either, Full, StreamBody};
use hyper::Response;
use hyper::body::Frame;
use hyper::header::CONTENT_TYPE;

use crate::calls::{CallLog, Finished, Ticket};
use crate::playback::score::{Act, End, Score};
use crate::reply::Reply;
use crate::script::Script;

/// The connection is to be closed, as scripted.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("cut, as scripted")]
pub(crate) struct Cut;

/// The body of an answer.
pub(crate) type Body = Either<Full<Bytes>, StreamBody<BoxStream<'static, Result<Frame<Bytes>, Cut>>>>;

/// Between the last byte before a cut and the cut.
const FLUSH_WAIT: Duration = Duration::from_millis(5);
/// Between two keep-alives when the script names no pause between events.
const KEEP_ALIVE_GAP: Duration = Duration::from_millis(20);

/// An answer whose body is `bytes`.
pub(crate) fn answer(status: u16, content_type: &str, bytes: Bytes) -> Response<Body> {
    let builder = Response::builder().status(status).header(CONTENT_TYPE, content_type);
    let body = Either::Left(Full::new(bytes));
    builder.body(body).unwrap_or_else(|_| Response::new(Either::Left(Full::new(Bytes::new()))))
}

/// The list that a call is entered in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum List {
    Calls,
    Lookups,
}

impl List {
    /// The list of `script`.
    pub(crate) fn of(self, script: &Script) -> &CallLog {
        match self {
            Self::Calls => script.log(),
            Self::Lookups => script.lookup_log(),
        }
    }
}

/// Decides how a call ended; the first decision counts.
#[derive(Debug)]
pub(crate) struct CallGuard {
    entered: Option<(Script, List, Ticket)>,
}

impl CallGuard {
    /// For a call in one of `script`'s lists.
    pub(crate) fn of(script: &Script, list: List, ticket: Ticket) -> Self {
        Self { entered: Some((script.clone(), list, ticket)) }
    }

    /// For a call that nobody lists.
    pub(crate) fn none() -> Self {
        Self { entered: None }
    }

    pub(crate) fn finish(&self, finished: Finished) {
        if let Some((script, list, ticket)) = &self.entered {
            list.of(script).finish(*ticket, finished);
        }
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        self.finish(Finished::Aborted);
    }
}

/// The body that plays `score` as `reply` wants it; a call that gets all of it ended in `finished`.
pub(crate) fn body_of(reply: &Reply, score: Score, guard: CallGuard, finished: Finished) -> Body {
    if let ([Act::Write(bytes)], End::Close) = (score.acts.as_slice(), &score.end) {
        guard.finish(finished);
        return Either::Left(Full::new(bytes.clone()));
    }
    let split = reply.split_bytes.is_some() || reply.split_inside_characters;
    let show = Show {
        score,
        position: 0,
        gap: Duration::from_millis(reply.gap_ms),
        pace: if split { Pace::EachByItself } else { Pace::AsReady },
        guard,
        finished,
    };
    let frames = unfold(show, |mut show| async move {
        let item = show.next().await?;
        Some((item, show))
    });
    Either::Right(StreamBody::new(frames.boxed()))
}

#[derive(Clone, Copy, Debug)]
enum Pace {
    AsReady,
    /// Gives the connection a chance to flush before each piece.
    EachByItself,
}

struct Show {
    score: Score,
    position: usize,
    gap: Duration,
    pace: Pace,
    guard: CallGuard,
    finished: Finished,
}

impl Show {
    async fn next(&mut self) -> Option<Result<Frame<Bytes>, Cut>> {
        while let Some(act) = self.score.acts.get(self.position).cloned() {
            let bytes = match act {
                Act::PauseMs(pause_ms) => {
                    self.position += 1;
                    tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                    continue;
                }
                Act::Write(bytes) => bytes,
            };
            if self.position > 0 {
                self.breathe().await;
            }
            self.position += 1;
            if self.position == self.score.acts.len() && self.score.end == End::Close {
                self.guard.finish(self.finished);
            }
            return Some(Ok(Frame::data(bytes)));
        }
        match &self.score.end {
            End::Close => {
                self.guard.finish(self.finished);
                None
            }
            End::Cut => {
                // What was written must reach the client before the connection closes.
                tokio::time::sleep(FLUSH_WAIT).await;
                self.guard.finish(Finished::Cut);
                Some(Err(Cut))
            }
            End::Silence => std::future::pending().await,
            End::Repeat(bytes) => {
                let gap = if self.gap.is_zero() { KEEP_ALIVE_GAP } else { self.gap };
                tokio::time::sleep(gap).await;
                Some(Ok(Frame::data(bytes.clone())))
            }
        }
    }

    async fn breathe(&self) {
        if !self.gap.is_zero() {
            tokio::time::sleep(self.gap).await;
        }
        match self.pace {
            Pace::AsReady => {}
            Pace::EachByItself => tokio::task::yield_now().await,
        }
    }
}
