//! Very many streams at once: whether each arrives whole, and what the API needs for them.
//!
//! The model drips its answer, so that all of them are open at the same time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde::Serialize;
use tokio::task::JoinSet;

use crate::{
    http::{Answer, Connection, Prepared},
    installation::{CLIENT_KEY, DRIPPING_MODEL, Installation},
    kinds::stream_body,
    measure::{Samples, Summary},
    plan::Plan,
    resources::resident_kib,
};

const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Connections that are being opened at the same time; a burst of all would measure the queue of the listener.
const OPENING_AT_ONCE: usize = 64;

/// What came of them.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ManyStreams {
    /// How many were asked for.
    pub(crate) streams: usize,
    /// The most that were open at the same time.
    pub(crate) open_at_once: usize,
    /// Those that did not end as they should.
    pub(crate) failed: usize,
    /// Why the first of them did not.
    pub(crate) failure: Option<String>,
    /// The largest resident size of the API meanwhile, in KiB.
    pub(crate) api_kib: u32,
    /// Until the first bytes.
    pub(crate) first_event: Option<Summary>,
}

/// Opens as many streams as planned and reads each to its end.
pub(crate) async fn measure(plan: &Plan, installation: &Installation) -> anyhow::Result<ManyStreams> {
    let request = request(installation);
    let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let opening = Arc::new(tokio::sync::Semaphore::new(OPENING_AT_ONCE));
    let mut reading = JoinSet::new();
    for _ in 0..plan.streams {
        let (request, open, most, opening) = (request.clone(), open.clone(), most.clone(), opening.clone());
        reading.spawn(async move {
            let permit = opening.acquire_owned().await?;
            let mut connection = Connection::open(&request.authority).await?;
            drop(permit);
            most.fetch_max(open.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            let answer = connection.exchange(&request).await;
            open.fetch_sub(1, Ordering::Relaxed);
            whole(answer?)
        });
    }
    let (mut first_event, mut failed, mut failure, mut api_kib) = (Samples::default(), 0, None, 0);
    let mut ticks = tokio::time::interval(LOOK_INTERVAL);
    loop {
        let ended = tokio::select! {
            ended = reading.join_next() => ended,
            _ = ticks.tick() => {
                api_kib = api_kib.max(resident_kib(installation.api.pid())?);
                continue;
            }
        };
        match ended {
            None => break,
            Some(ended) => match ended? {
                Ok(answer) => first_event.push(answer.first_byte),
                Err(error) => {
                    failed += 1;
                    failure.get_or_insert_with(|| format!("{error:#}"));
                }
            },
        }
    }
    let open_at_once = most.load(Ordering::Relaxed);
    Ok(ManyStreams {
        streams: plan.streams,
        open_at_once,
        failed,
        failure,
        api_kib,
        first_event: first_event.summary(),
    })
}

fn request(installation: &Installation) -> Prepared {
    let mut body = stream_body();
    body["model"] = DRIPPING_MODEL.into();
    Prepared::post(&installation.api_authority, "/v1/chat/completions", &body).key(CLIENT_KEY).durability("none")
}

fn whole(answer: Answer) -> anyhow::Result<Answer> {
    anyhow::ensure!(answer.body.ends_with(b"data: [DONE]\n\n"), "a stream ended without its end mark");
    Ok(answer)
}
