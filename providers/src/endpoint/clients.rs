//! The HTTP clients of one provider, each with a pool of connections.
//!
//! A request over a connection that another thread opened wakes that thread for every read and write. So each thread has
//! a client of its own where the provider is reached without TLS, as one on the same machine or network is. Elsewhere the
//! way to the provider takes far longer than the wake-ups, and a client costs memory for its certificates: there is one.

use std::time::Duration;

use reqwest::{Client, redirect};
use thread_local::ThreadLocal;

use super::servers::Servers;
use crate::base_url::{CheckedResolver, LinkLocal, is_loopback};
use crate::call::Timeouts;

/// An idle connection is closed after this: many servers close theirs after 60 s, and a request sent into a closing
/// connection is lost.
const POOL_IDLE: Duration = Duration::from_secs(30);

/// What a client is made of.
#[derive(Clone, Copy, Debug)]
struct Recipe {
    connect_timeout: Duration,
    link_local: LinkLocal,
    is_plain: bool,
    is_loopback: bool,
}

/// One client for everybody, or one for each thread.
#[derive(Debug)]
pub(super) struct Clients {
    recipe: Recipe,
    shared: Client,
    own: ThreadLocal<Client>,
}

impl Clients {
    pub(super) fn new(servers: &Servers, timeouts: Timeouts, link_local: LinkLocal) -> Result<Self, reqwest::Error> {
        let recipe = Recipe {
            connect_timeout: Duration::from_millis(timeouts.connect_ms),
            link_local,
            is_plain: servers.all(|url| url.scheme() == "http"),
            is_loopback: servers.all(is_loopback),
        };
        Ok(Self { recipe, shared: build(recipe)?, own: ThreadLocal::new() })
    }

    /// The client of this thread.
    pub(super) fn get(&self) -> &Client {
        if self.recipe.is_plain {
            // The recipe has made one before; should it fail now, the shared one serves as well.
            self.own.get_or(|| build(self.recipe).unwrap_or_else(|_| self.shared.clone()))
        } else {
            &self.shared
        }
    }
}

fn build(recipe: Recipe) -> Result<Client, reqwest::Error> {
    let mut builder = Client::builder()
        .http1_only()
        .connect_timeout(recipe.connect_timeout)
        .pool_idle_timeout(POOL_IDLE)
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .user_agent(concat!("tokenhub/", env!("CARGO_PKG_VERSION")));
    if recipe.is_plain {
        // Loading the system's certificates takes milliseconds and fails where there are none.
        builder = builder.tls_certs_only([]);
    }
    if recipe.is_loopback {
        builder = builder.no_proxy();
    }
    match recipe.link_local {
        LinkLocal::Refused => builder.dns_resolver(CheckedResolver),
        LinkLocal::Allowed => builder,
    }
    .build()
}
