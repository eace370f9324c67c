//! When the parts are ready to be announced.

use std::{future::Future, time::Duration};

use tokio::{net::TcpStream, time::timeout};

use crate::temporal_server::TemporalServer;

const POLL_INTERVAL: Duration = Duration::from_millis(100);
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether `holds` became true within `patience`.
pub(crate) async fn within<F: Future<Output = bool>>(patience: Duration, holds: impl Fn() -> F) -> bool {
    let wait = async {
        while !timeout(PROBE_TIMEOUT, holds()).await.unwrap_or(false) {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    timeout(patience, wait).await.is_ok()
}

/// Whether a GET of `url` answers with success.
pub(crate) async fn answers(client: &reqwest::Client, url: &str) -> bool {
    client.get(url).send().await.is_ok_and(|response| response.status().is_success())
}

/// Whether something accepts connections at `address`.
pub(crate) async fn accepts(address: &str) -> bool {
    TcpStream::connect(address).await.is_ok()
}

/// Whether a worker polls `queue`.
pub(crate) async fn has_poller(server: &TemporalServer, queue: &str) -> bool {
    let Ok(output) = server.pollers_command(queue).output().await else { return false };
    serde_json::from_slice::<serde_json::Value>(&output.stdout)
        .is_ok_and(|answer| answer["pollers"].as_array().is_some_and(|pollers| !pollers.is_empty()))
}

/// The first model that the API lists, and whether the listing worked at all.
pub(crate) async fn first_model(client: &reqwest::Client, api_url: &str) -> Option<String> {
    let response = client.get(format!("{api_url}/v1/models")).send().await.ok()?;
    let listing: serde_json::Value = serde_json::from_slice(&response.bytes().await.ok()?).ok()?;
    listing["data"][0]["id"].as_str().map(str::to_owned)
}
