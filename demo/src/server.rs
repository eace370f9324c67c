//! The HTTP server under both faces.
//!
//! Plain hyper instead of a framework: a scripted provider must be able to close a connection without an answer, which
//! frameworks hide, and must cost little beside what is measured against it.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderMap};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::calls::Arrival;
use crate::control::control;
use crate::models::{DEMO_MODELS, reply};
use crate::playback::{Body, CallGuard, Cut, answer, play};
use crate::script::{Prepared, Script};
use crate::wire::{ChatRequest, model_list};

/// Largest request body, above what the product lets through.
const REQUEST_BYTES: usize = 64 * 1024 * 1024;

/// What the server shows.
#[derive(Clone, Debug)]
pub enum Face {
    /// Three models with canned answers.
    DemoModels,
    /// Whatever the script says.
    Scripted(Script),
}

/// A server that has its port and does not serve yet.
#[derive(Debug)]
pub struct DemoServer {
    listener: TcpListener,
    address: SocketAddr,
    face: Face,
}

impl DemoServer {
    /// Takes the port; 0 takes a free one.
    pub async fn bind(address: SocketAddr, face: Face) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, face })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The base URL for clients, without `/v1`.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Serves until `shutdown`; open connections are closed then, and when the future is dropped.
    pub async fn serve(self, shutdown: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(serve_connection(stream, self.face.clone()));
                    }
                    Err(error) => {
                        // Out of descriptors, mostly: trying again at once would spin.
                        tracing::warn!(%error, "the demo provider could not accept a connection");
                        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                    }
                },
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, face: Face) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| handle(&face, request));
    // A connection that ends in an error was cut by the client or by the script; both are noted with the call.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn handle(face: &Face, request: Request<Incoming>) -> Result<Response<Body>, Cut> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, REQUEST_BYTES).collect().await else { return Err(Cut) };
    let body = body.to_bytes();
    let path = head.uri.path();
    if head.method == Method::POST && path.ends_with("/chat/completions") {
        return chat(face, &head.headers, body).await;
    }
    if head.method == Method::GET && path.ends_with("/models") {
        return Ok(models(face));
    }
    let controlled = match face {
        Face::Scripted(script) => control(script, &head.method, path, &body),
        Face::DemoModels => None,
    };
    Ok(controlled.unwrap_or_else(|| refusal(404, "no such path")))
}

async fn chat(face: &Face, headers: &HeaderMap, body: Bytes) -> Result<Response<Body>, Cut> {
    let Ok(request) = ChatRequest::read(body) else { return Ok(refusal(400, "the request body is not JSON")) };
    match face {
        Face::DemoModels => {
            let reply = reply(&request.model, &request.messages());
            play(Prepared { reply, fast: None }.into(), request, CallGuard::none()).await
        }
        Face::Scripted(script) => {
            let prepared = script.choose(&request);
            let guard = if prepared.fast.is_some() {
                script.log().count_fast();
                CallGuard::none()
            } else {
                let text = |value: &hyper::header::HeaderValue| value.to_str().unwrap_or_default().to_owned();
                let ticket = script.log().enter(Arrival {
                    attempt_id: headers.get("x-tokenhub-attempt-id").map(text),
                    authorization: headers.get(AUTHORIZATION).map(text),
                    model: request.model.clone(),
                    body: request.raw.clone(),
                });
                CallGuard::of(script, ticket)
            };
            play(prepared, request, guard).await
        }
    }
}

fn models(face: &Face) -> Response<Body> {
    let list = match face {
        Face::DemoModels => model_list(DEMO_MODELS.iter().map(|model| (model.id, Some(model.context_tokens)))),
        Face::Scripted(script) => model_list(script.models().iter().map(|model| (model.as_str(), None))),
    };
    answer(200, "application/json", Bytes::from(list.to_string()))
}

fn refusal(status: u16, message: &str) -> Response<Body> {
    let error = serde_json::json!({"error": {"message": message, "type": "invalid_request_error", "param": null, "code": null}});
    answer(status, "application/json", Bytes::from(error.to_string()))
}
