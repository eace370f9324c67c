//! When the parts are ready to be announced.

use std::{future::Future, time::Duration};

use tokio::time::timeout;

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

/// Whether the API at `api_url` sends runs to Temporal: it is connected, and it has seen a worker poll.
pub(crate) async fn is_durable(client: &reqwest::Client, api_url: &str) -> bool {
    let health = get_json(client, &format!("{api_url}/healthz?verbose")).await.unwrap_or_default();
    health["temporal"]["connected"] == true && health["temporal"]["breaker"]["state"] == "closed"
}

/// The first model that the API lists.
pub(crate) async fn first_model(client: &reqwest::Client, api_url: &str) -> Option<String> {
    let listing = get_json(client, &format!("{api_url}/v1/models")).await?;
    listing["data"][0]["id"].as_str().map(str::to_owned)
}

async fn get_json(client: &reqwest::Client, url: &str) -> Option<serde_json::Value> {
    client.get(url).send().await.ok()?.json().await.ok()
}
