//! The threads that serve. Each has a runtime of its own, so that a request is read, carried and answered on the thread
//! that was given its connection, and waking a task wakes no other thread.
//!
//! Knows connections and threads, nothing of what is asked. Tasks that requests leave behind, as runs that go on without
//! their client, live on these threads too: they end with [`Lanes::end`], which comes after everything else.

use std::{net::SocketAddr, thread::JoinHandle, time::Duration};

use axum::{Router, serve::Listener};
use futures_util::future;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Builder,
    sync::{
        mpsc::{self, error::TrySendError},
        oneshot,
    },
};
use tokio_util::sync::CancellationToken;

/// Connections that may wait for one thread to take them; more stay in the listener's own queue.
const CONNECTIONS_WAITING: usize = 1_024;

/// Between two looks whether the threads have taken what was dealt to them.
const TAKE_INTERVAL: Duration = Duration::from_millis(1);

/// A connection on its way to its thread.
type Accepted = (std::net::TcpStream, SocketAddr);

/// Threads that serve one router.
pub(crate) struct Lanes {
    threads: Vec<Lane>,
    /// Whose turn it is.
    turn: usize,
    drain: CancellationToken,
    end: CancellationToken,
}

struct Lane {
    connections: mpsc::Sender<Accepted>,
    served: oneshot::Receiver<()>,
    thread: JoinHandle<()>,
}

impl Lanes {
    /// Starts `threads` of them.
    pub(crate) fn start(threads: usize, router: &Router) -> std::io::Result<Self> {
        let (drain, end) = (CancellationToken::new(), CancellationToken::new());
        let lanes = (0..threads).map(|number| lane(number, router.clone(), drain.clone(), end.clone()));
        Ok(Self { threads: lanes.collect::<std::io::Result<_>>()?, turn: 0, drain, end })
    }

    /// Deals out connections in turn until `stop`. From then on each connection closes behind the answer that it is in;
    /// returns once all are closed.
    pub(crate) async fn serve(&mut self, listener: TcpListener, stop: &CancellationToken) {
        let mut listener = listener;
        loop {
            // Errors, as when file descriptors run out, are waited out inside.
            let (stream, address) = tokio::select! {
                () = stop.cancelled() => break,
                accepted = Listener::accept(&mut listener) => accepted,
            };
            // An answer is often written in two parts, headers and body; the second must not wait for the first to be
            // confirmed.
            let handed_over = stream.set_nodelay(true).and_then(|()| stream.into_std());
            match handed_over {
                Ok(stream) => self.deal((stream, address), stop).await,
                Err(error) => tracing::debug!(%error, "a connection was lost at once"),
            }
        }
        drop(listener);
        // What was dealt is also taken.
        while self
            .threads
            .iter()
            .any(|lane| lane.connections.capacity() < CONNECTIONS_WAITING && !lane.connections.is_closed())
        {
            tokio::time::sleep(TAKE_INTERVAL).await;
        }
        self.drain.cancel();
        future::join_all(self.threads.iter_mut().map(|lane| &mut lane.served)).await;
    }

    /// Gives the connection to the next thread with room; a busy one does not hold up the others.
    async fn deal(&mut self, mut accepted: Accepted, stop: &CancellationToken) {
        for _ in 0..self.threads.len() {
            let lane = &self.threads[self.turn];
            self.turn = (self.turn + 1) % self.threads.len();
            accepted = match lane.connections.try_send(accepted) {
                Ok(()) => return,
                Err(TrySendError::Full(accepted)) => accepted,
                Err(TrySendError::Closed(accepted)) => {
                    tracing::error!("a serving thread has ended; the others take its connections");
                    accepted
                }
            };
        }
        // All are full. One that has ended takes nothing, and then the connection closes.
        tokio::select! {
            () = stop.cancelled() => {}
            _ = self.threads[self.turn].connections.send(accepted) => {}
        }
    }

    /// Ends the threads, and whatever still runs on them.
    pub(crate) async fn end(self) {
        self.end.cancel();
        let threads: Vec<JoinHandle<()>> = self.threads.into_iter().map(|lane| lane.thread).collect();
        let joined = tokio::task::spawn_blocking(move || threads.into_iter().all(|thread| thread.join().is_ok()));
        if !joined.await.unwrap_or(false) {
            tracing::error!("a serving thread panicked");
        }
    }
}

fn lane(number: usize, router: Router, drain: CancellationToken, end: CancellationToken) -> std::io::Result<Lane> {
    let (connections, waiting) = mpsc::channel(CONNECTIONS_WAITING);
    let (tell_served, served) = oneshot::channel();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name(format!("serve-{number}")).spawn(move || {
        runtime.block_on(async {
            let dealt = Dealt(waiting);
            let serving = axum::serve(dealt, router).with_graceful_shutdown(drain.cancelled_owned());
            if let Err(error) = serving.await {
                tracing::error!(%error, "a serving thread stopped serving");
            }
            // Nobody waits when the drain took too long.
            let _ = tell_served.send(());
            end.cancelled().await;
        });
        // What still runs beside the runtime, and cannot be stopped, is not waited for.
        runtime.shutdown_background();
    })?;
    Ok(Lane { connections, served, thread })
}

/// The connections that a thread is given.
struct Dealt(mpsc::Receiver<Accepted>);

impl Listener for Dealt {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            let Some((stream, address)) = self.0.recv().await else { return future::pending().await };
            match TcpStream::from_std(stream) {
                Ok(stream) => return (stream, address),
                Err(error) => tracing::warn!(%error, "a connection could not be taken"),
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Threads that serve until they are told to stop, and end then.
    async fn serving(threads: usize, router: Router) -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
        let mut lanes = Lanes::start(threads, &router).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let stopping = stop.clone();
        let serving = tokio::spawn(async move {
            lanes.serve(listener, &stopping).await;
            lanes.end().await;
        });
        (address, stop, serving)
    }

    async fn ask(connection: &mut TcpStream) -> String {
        connection.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut buffer = vec![0; 1024];
        let length = connection.read(&mut buffer).await.unwrap();
        let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
        answer.rsplit("\r\n").next().unwrap_or_default().to_owned()
    }

    #[tokio::test]
    async fn connections_are_dealt_out_in_turn_stay_where_they_are_and_are_drained() {
        let name = || async { std::thread::current().name().unwrap_or_default().to_owned() };
        let (address, stop, serving) = serving(3, Router::new().route("/", get(name))).await;
        let mut served: BTreeMap<String, usize> = BTreeMap::new();
        let mut connections = Vec::new();
        for _ in 0..6 {
            let mut connection = TcpStream::connect(address).await.unwrap();
            let first = ask(&mut connection).await;
            assert_eq!(ask(&mut connection).await, first, "a connection moved to another thread");
            *served.entry(first).or_default() += 1;
            connections.push(connection);
        }
        let expected: BTreeMap<String, usize> = (0..3).map(|number| (format!("serve-{number}"), 2)).collect();
        assert_eq!(served, expected);
        stop.cancel();
        // Idle connections do not hold up the end, and the threads are gone with it.
        tokio::time::timeout(PATIENCE, serving).await.unwrap().unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn a_request_in_hand_is_answered_before_the_end() {
        let slow = || async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            "done"
        };
        let (address, stop, serving) = serving(1, Router::new().route("/", get(slow))).await;
        let mut connection = TcpStream::connect(address).await.unwrap();
        let asking = tokio::spawn(async move { ask(&mut connection).await });
        tokio::time::sleep(Duration::from_millis(100)).await;
        stop.cancel();
        assert_eq!(asking.await.unwrap(), "done");
        tokio::time::timeout(PATIENCE, serving).await.unwrap().unwrap();
    }
}
