//! The HTTP server under both faces.
//!
//! Plain hyper instead of a framework: a scripted provider must be able to close a connection without an answer, which
//! frameworks hide, and must cost little beside what is measured against it.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::Response;
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::background;
use crate::calls::{Arrival, Finished};
use crate::control::control;
use crate::dialect::{Dialect, Route};
use crate::held_stream::{HeldStream, Hold};
use crate::models::{DEMO_MODELS, reply};
use crate::playback::show::{Body, CallGuard, Cut, List, answer};
use crate::playback::{play, refusal};
use crate::reply::{Content, Ending, ErrorBody};
use crate::request::Request;
use crate::script::{Prepared, Script};
use crate::wire::listing::{self, Listed};

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
    let hold = Hold::default();
    let service = service_fn(|request| handle(&face, request, &hold));
    let stream = TokioIo::new(HeldStream::new(stream, hold.clone()));
    // A connection that ends in an error was cut by the client or by the script; both are noted with the call.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await;
}

async fn handle(face: &Face, request: hyper::Request<Incoming>, hold: &Hold) -> Result<Response<Body>, Cut> {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, REQUEST_BYTES).collect().await else { return Err(Cut) };
    let body = body.to_bytes();
    match Route::of(&head.method, head.uri.path()) {
        Some(route) => serve(face, head, route, body, hold).await,
        None => elsewhere(face, &head, &body),
    }
}

async fn serve(face: &Face, head: Parts, route: Route, body: Bytes, hold: &Hold) -> Result<Response<Body>, Cut> {
    let request = match route {
        Route::Models => Ok(Request::bare(head, route, body)),
        Route::ChatCompletions | Route::Responses | Route::Messages | Route::CountTokens | Route::Embeddings => {
            Request::read(head, route, body)
        }
    };
    match face {
        Face::DemoModels => {
            let Ok(request) = request else { return Ok(unreadable(route.dialect())) };
            if route == Route::Models {
                let models = DEMO_MODELS.map(|model| (model.id, Some(model.context_tokens)));
                return Ok(models_answer(&request, &models));
            }
            let reply = reply(&request.model, &request.messages());
            play(Prepared { reply, fast: None }.into(), request, CallGuard::none(), hold).await
        }
        Face::Scripted(script) => match request {
            Ok(request) => scripted(script, request, hold).await,
            Err(_) => Ok(unreadable(route.dialect())),
        },
    }
}

async fn scripted(script: &Script, request: Request, hold: &Hold) -> Result<Response<Body>, Cut> {
    let list = if request.route == Route::Models { List::Lookups } else { List::Calls };
    let enter = |request: &Request| CallGuard::of(script, list, list.of(script).enter(Arrival::of(request)));
    let refused = script.turned_away(&request.head.headers).map(|error| (401, error));
    if let Some((status, error)) = refused.or_else(|| script.objection(&request).map(|error| (400, error))) {
        enter(&request).finish(Finished::Failed(status));
        return Ok(refusal(request.dialect(), status, &error));
    }
    let prepared = script.choose(&request);
    let mut guard = if prepared.fast.is_some() {
        script.log().count_fast();
        CallGuard::none()
    } else {
        enter(&request)
    };
    let lists = request.route == Route::Models
        && prepared.reply.content == Content::Echo
        && prepared.reply.ending == Ending::Whole;
    if lists {
        guard.finish(Finished::Answered);
        let models = script.models();
        let models: Vec<Listed<'_>> = models.iter().map(|model| (model.as_str(), None)).collect();
        return Ok(models_answer(&request, &models));
    }
    if background::is_asked(&request)
        && let Some(begun) = background::begin(script, &prepared, &request, &mut guard)
    {
        return Ok(begun);
    }
    play(prepared, request, guard, hold).await
}

/// The list, or the model that the path names.
fn models_answer(request: &Request, models: &[Listed<'_>]) -> Response<Body> {
    let dialect = request.dialect();
    let uri = &request.head.uri;
    let wanted = uri.path().split_once("/models/").map(|(_, id)| id.replace("%2F", "/").replace("%3A", ":"));
    let body = match wanted {
        None => listing::list(dialect, models, uri.query().unwrap_or_default()),
        Some(id) => match models.iter().find(|(known, _)| *known == id) {
            Some(model) => listing::entry(dialect, *model),
            None => return refusal(dialect, 404, &error(&format!("there is no model {id}"))),
        },
    };
    answer(200, "application/json", Bytes::from(body.to_string()))
}

/// What is on none of the provider's own paths.
fn elsewhere(face: &Face, head: &Parts, body: &Bytes) -> Result<Response<Body>, Cut> {
    let no_such_path =
        || refusal(Dialect::Chat, 404, &ErrorBody { kind: Some(INVALID.to_owned()), ..error("no such path") });
    let Face::Scripted(script) = face else { return Ok(no_such_path()) };
    if let Some(looked) = background::look(script, head, body) {
        return looked;
    }
    Ok(control(script, &head.method, head.uri.path(), body).unwrap_or_else(|| {
        let ticket = script.lookup_log().enter(Arrival::new(head, String::new(), body.clone()));
        script.lookup_log().finish(ticket, Finished::Failed(404));
        no_such_path()
    }))
}

const INVALID: &str = "invalid_request_error";

fn unreadable(dialect: Dialect) -> Response<Body> {
    refusal(dialect, 400, &error("the request body is not JSON"))
}

fn error(message: &str) -> ErrorBody {
    ErrorBody { message: message.to_owned(), ..ErrorBody::default() }
}
