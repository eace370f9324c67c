//! One HTTP/1.1 connection that is used again and again: the cheapest client that there is.
//!
//! A pooling client would add its own cost and its own choice of connections to every figure.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, StatusCode,
    client::conn::http1::{self, SendRequest},
    header::{AUTHORIZATION, CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// The header in which the hub says who carried a request.
const DURABILITY: &str = "x-tokenhub-durability";
/// A request that takes longer has failed.
const PATIENCE: Duration = Duration::from_mins(1);

/// A request that can be sent many times.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    /// `host:port`.
    pub(crate) authority: String,
    method: Method,
    path: String,
    body: Bytes,
    key: Option<String>,
    durability: Option<&'static str>,
}

impl Prepared {
    /// A POST of `body` to the path of a server.
    pub(crate) fn post(authority: &str, path: &str, body: &Value) -> Self {
        Self {
            authority: authority.to_owned(),
            method: Method::POST,
            path: path.to_owned(),
            body: Bytes::from(body.to_string()),
            key: None,
            durability: None,
        }
    }

    /// A GET.
    pub(crate) fn get(authority: &str, path: &str) -> Self {
        Self { method: Method::GET, body: Bytes::new(), ..Self::post(authority, path, &Value::Null) }
    }

    /// With a client key.
    pub(crate) fn key(mut self, key: &str) -> Self {
        self.key = Some(format!("Bearer {key}"));
        self
    }

    /// With a wish for durability.
    pub(crate) fn durability(mut self, wish: &'static str) -> Self {
        self.durability = Some(wish);
        self
    }

    fn request(&self) -> anyhow::Result<Request<Full<Bytes>>> {
        let mut builder = Request::builder()
            .method(self.method.clone())
            .uri(&self.path)
            .header(HOST, &self.authority)
            .header(CONTENT_TYPE, "application/json");
        if let Some(key) = &self.key {
            builder = builder.header(AUTHORIZATION, key);
        }
        if let Some(wish) = self.durability {
            builder = builder.header(DURABILITY, wish);
        }
        Ok(builder.body(Full::new(self.body.clone()))?)
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    /// From sending to the first bytes of the body.
    pub(crate) first_byte: Duration,
    /// From sending to the last byte.
    pub(crate) took: Duration,
    /// Who carried it, where the hub says so.
    pub(crate) durability: Option<String>,
    /// The body.
    pub(crate) body: Bytes,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    authority: String,
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    /// Connects to `host:port`.
    pub(crate) async fn open(authority: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(authority).await.with_context(|| format!("connecting to {authority}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { authority: authority.to_owned(), sender })
    }

    /// Sends a request and reads the answer; any status but 200 is an error.
    pub(crate) async fn exchange(&mut self, prepared: &Prepared) -> anyhow::Result<Answer> {
        if self.sender.is_closed() {
            *self = Self::open(&self.authority).await?;
        }
        let exchange = exchange(&mut self.sender, prepared.request()?);
        let answer = tokio::time::timeout(PATIENCE, exchange).await;
        answer.with_context(|| format!("no answer to {} within {PATIENCE:?}", prepared.path))?
    }
}

async fn exchange(sender: &mut SendRequest<Full<Bytes>>, request: Request<Full<Bytes>>) -> anyhow::Result<Answer> {
    let started = Instant::now();
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    let (head, mut body) = response.into_parts();
    let (mut first_byte, mut read) = (None, BytesMut::new());
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            first_byte.get_or_insert_with(|| started.elapsed());
            read.extend_from_slice(&data);
        }
    }
    let took = started.elapsed();
    if head.status != StatusCode::OK {
        bail!("status {}: {}", head.status, String::from_utf8_lossy(&read));
    }
    let durability = head.headers.get(DURABILITY).and_then(|value| value.to_str().ok()).map(str::to_owned);
    Ok(Answer { first_byte: first_byte.unwrap_or(took), took, durability, body: read.freeze() })
}

/// One request on a connection of its own, with the answer as JSON.
pub(crate) async fn once(prepared: &Prepared) -> anyhow::Result<Value> {
    let answer = Connection::open(&prepared.authority).await?.exchange(prepared).await?;
    Ok(serde_json::from_slice(&answer.body)?)
}
