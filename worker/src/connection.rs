//! The connection to Temporal, tried until it stands, and the search attributes that our workflows use.

use std::time::Duration;

use temporalio_client::{
    Client, ClientOptions, Connection, GrpcCompression, envconfig::LoadClientConfigProfileOptions,
};
use temporalio_common::{
    protos::temporal::api::{enums::v1::IndexedValueType, operatorservice::v1::AddSearchAttributesRequest},
    telemetry::metrics::TemporalMeter,
};
use temporalio_sdk_core::Url;
use tokenhub_activities::PayloadCodec;
use tokenhub_config::TemporalSettings;
use tokenhub_domain::InstanceId;
use tokenhub_workflows::{AttributeForm, SearchAttribute};
use tokio_util::sync::CancellationToken;

/// The SDK's own limit does not cover the first call on the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const RETRY_INTERVAL_MIN: Duration = Duration::from_millis(100);
const RETRY_INTERVAL_MAX: Duration = Duration::from_secs(2);

/// A client, as soon as Temporal answers; `None` when the process stops first.
pub(crate) async fn connect(
    temporal: &TemporalSettings,
    instance: &InstanceId,
    codec: &PayloadCodec,
    meter: Option<&TemporalMeter>,
    stop: &CancellationToken,
) -> Option<Client> {
    let mut interval = RETRY_INTERVAL_MIN;
    loop {
        let failure = match tokio::time::timeout(CONNECT_TIMEOUT, try_connect(temporal, instance, codec, meter)).await {
            Ok(Ok(client)) => return Some(client),
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => "no answer in time".to_owned(),
        };
        tracing::debug!(address = %temporal.address, failure, "Temporal is not there yet");
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = stop.cancelled() => return None,
        }
        interval = (interval * 2).min(RETRY_INTERVAL_MAX);
    }
}

async fn try_connect(
    temporal: &TemporalSettings,
    instance: &InstanceId,
    codec: &PayloadCodec,
    meter: Option<&TemporalMeter>,
) -> anyhow::Result<Client> {
    // TLS, API key and metadata come from Temporal's own variables and file; the address is ours.
    let (mut options, _) = ClientOptions::load_from_config(LoadClientConfigProfileOptions::default())
        .map_err(|error| anyhow::anyhow!("Temporal's own configuration cannot be read: {error}"))?;
    let scheme = if options.tls_options.is_some() { "https" } else { "http" };
    options.target = format!("{scheme}://{}", temporal.address).parse::<Url>()?;
    options.identity = format!("tokenhub-worker {instance}");
    options.connect_timeout = Some(Duration::from_secs(2));
    options.grpc_compression = GrpcCompression::None;
    options.metrics_meter = meter.cloned();
    let connection = Connection::connect(options).await?;
    register_search_attributes(&connection, &temporal.namespace).await;
    Ok(Client::new(
        connection,
        ClientOptions::new(temporal.namespace.clone()).data_converter(codec.data_converter()).build(),
    )?)
}

/// Workflows are started without attributes where this is refused, so a refusal is only logged.
async fn register_search_attributes(connection: &Connection, namespace: &str) {
    for attributes in [&SearchAttribute::OF_EVERY_RUN[..], &SearchAttribute::OF_LABELS[..]] {
        register(connection, namespace, attributes).await;
    }
}

fn value_type(form: AttributeForm) -> IndexedValueType {
    match form {
        AttributeForm::Keyword => IndexedValueType::Keyword,
        AttributeForm::KeywordList => IndexedValueType::KeywordList,
    }
}

async fn register(connection: &Connection, namespace: &str, attributes: &[SearchAttribute]) {
    let request = AddSearchAttributesRequest {
        search_attributes: attributes.iter().map(|it| (it.name.to_owned(), value_type(it.form) as i32)).collect(),
        namespace: namespace.to_owned(),
    };
    match connection.operator_service().add_search_attributes(tonic::Request::new(request)).await {
        Ok(_) => {}
        Err(status) if status.code() == tonic::Code::AlreadyExists => {}
        Err(status) => tracing::warn!(code = ?status.code(), "search attributes were not registered"),
    }
}
