//! A proxy that does nothing, made of the libraries that the API is made of: what those cost by themselves.
//!
//! One thread for each processor with a runtime, a client and connections of its own, as the API serves. No key, no route,
//! no ledger, no log: whatever the API takes beyond it is the API's own doing.

use std::{io::Write as _, net::TcpListener as Listening, sync::Arc, time::Duration};

use anyhow::Context;
use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use clap::Args;
use tokio::{net::TcpListener, runtime::Builder};

/// Before a failed accept is repeated.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// The proxy as a process.
#[derive(Debug, Args)]
pub(crate) struct EmptyProxy {
    /// `host:port` of the provider.
    #[arg(long)]
    provider: String,
}

/// What each thread has.
#[derive(Clone)]
struct Lane {
    client: reqwest::Client,
    provider: Arc<str>,
}

impl EmptyProxy {
    /// Serves until the process is killed.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listening = Listening::bind("127.0.0.1:0")?;
        listening.set_nonblocking(true)?;
        let mut out = std::io::stdout();
        writeln!(out, "listening on http://{}", listening.local_addr()?)?;
        out.flush()?;
        let provider: Arc<str> = self.provider.into();
        let threads = std::thread::available_parallelism()?.get();
        let serving: Vec<_> = (0..threads)
            .map(|_| {
                let (listening, provider) = (listening.try_clone()?, Arc::clone(&provider));
                Ok(std::thread::spawn(move || serve(listening, provider)))
            })
            .collect::<std::io::Result<_>>()?;
        for thread in serving {
            thread.join().map_err(|_| anyhow::anyhow!("a thread of the empty proxy panicked"))??;
        }
        Ok(())
    }
}

fn serve(listening: Listening, provider: Arc<str>) -> anyhow::Result<()> {
    Builder::new_current_thread().enable_all().build()?.block_on(async {
        let client = reqwest::Client::builder().no_proxy().tcp_nodelay(true).build()?;
        let router = Router::new().fallback(pass_on).with_state(Lane { client, provider });
        let listener = Quiet(TcpListener::from_std(listening)?);
        axum::serve(listener, router).await.context("the empty proxy stopped serving")
    })
}

async fn pass_on(State(lane): State<Lane>, uri: Uri, body: Bytes) -> Response {
    let url = format!("http://{}{}", lane.provider, uri.path());
    let request = lane.client.post(url).header(header::CONTENT_TYPE, "application/json").body(body);
    match request.send().await {
        Ok(answer) => {
            let (status, kind) = (answer.status(), answer.headers().get(header::CONTENT_TYPE).cloned());
            let mut response = (status, Body::from_stream(answer.bytes_stream())).into_response();
            if let Some(kind) = kind {
                response.headers_mut().insert(header::CONTENT_TYPE, kind);
            }
            response
        }
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

/// Connections that write at once, as the API's do.
struct Quiet(TcpListener);

impl axum::serve::Listener for Quiet {
    type Io = tokio::net::TcpStream;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            match self.0.accept().await {
                Ok((stream, address)) if stream.set_nodelay(true).is_ok() => return (stream, address),
                Ok(_) => {}
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.0.local_addr()
    }
}
