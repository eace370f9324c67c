//! The scripted models, served from this process over a real loopback socket.
//!
//! Owns their address and their end; what they answer is the demo crate's business.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context;
use tokenhub_demo::{DEMO_MODELS, DemoServer, Face};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::ephemeral::OfferedModel;

/// A demo server that runs.
#[derive(Debug)]
pub(crate) struct DemoModels {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl DemoModels {
    /// Starts it; 0 takes a free port.
    pub(crate) async fn start(port: u16) -> anyhow::Result<Self> {
        let server = DemoServer::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), Face::DemoModels)
            .await
            .context("cannot serve the demo models")?;
        let address = server.local_addr();
        let stop = CancellationToken::new();
        let task = tokio::spawn(server.serve(stop.clone()));
        Ok(Self { address, stop, task })
    }

    /// Root of the API.
    pub(crate) fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it serves.
    pub(crate) fn models() -> Vec<OfferedModel> {
        DEMO_MODELS
            .iter()
            .map(|model| OfferedModel { id: model.id.to_owned(), context_tokens: model.context_tokens })
            .collect()
    }

    /// Ends it.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        let _ = self.task.await;
    }
}
