//! Makes the build of this worker the one that new runs go to, where that was asked for.
//!
//! Temporal knows a build only after it has polled, so it is told again and again until it takes it. Once: a build that
//! an operator makes current later stays so.

use std::time::Duration;

use temporalio_client::Client;
use temporalio_common::protos::temporal::api::workflowservice::v1::SetWorkerDeploymentCurrentVersionRequest;
use tokenhub_config::{Settings, TemporalSettings};
use tokio_util::sync::CancellationToken;

use crate::options::version_of;

const RETRY_INTERVAL: Duration = Duration::from_millis(250);

/// Tells Temporal until it has taken it or the worker ends.
pub(crate) async fn promote(
    settings: &Settings,
    temporal: &TemporalSettings,
    client: &Client,
    ends: &CancellationToken,
) {
    let Some(deployment) = settings.worker.deployment.as_ref().filter(|deployment| deployment.promote) else { return };
    let version = version_of(deployment);
    let mut told = String::new();
    let telling = async {
        loop {
            let request = SetWorkerDeploymentCurrentVersionRequest {
                namespace: temporal.namespace.clone(),
                deployment_name: version.deployment_name.clone(),
                build_id: version.build_id.clone(),
                identity: format!("tokenhub-worker {}", version.build_id),
                ..SetWorkerDeploymentCurrentVersionRequest::default()
            };
            let mut service = client.connection().workflow_service();
            match service.set_worker_deployment_current_version(tonic::Request::new(request)).await {
                Ok(_) => return,
                Err(status) if status.message() != told => {
                    status.message().clone_into(&mut told);
                    tracing::debug!(code = ?status.code(), told, "the build is not current yet");
                }
                Err(_) => {}
            }
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    };
    tokio::select! {
        () = telling => tracing::info!(build = version.build_id, deployment = version.deployment_name, "new runs go to this build"),
        () = ends.cancelled() => {}
    }
}
