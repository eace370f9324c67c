//! The settings of a worker.

use std::net::SocketAddr;

use crate::{
    ConfigError,
    parse::{Values, boolean, socket_addr},
};

/// A worker that carries a run it has begun to its end, and leaves those of other builds to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerDeployment {
    /// What all builds have in common.
    pub name: String,
    /// Which build this is; without it the hash of the program.
    pub build_id: Option<String>,
    /// Whether new runs are this build's as soon as it polls. Without it an operator says so.
    pub promote: bool,
}

/// How a worker works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerSettings {
    /// How long a stopping worker waits for the steps it is in.
    pub grace_secs: u64,
    /// Provider calls at a time.
    pub activity_slots: usize,
    /// Local steps (select, log) at a time.
    pub local_activity_slots: usize,
    /// Workflow tasks at a time.
    pub workflow_slots: usize,
    /// Workflows kept in memory between their tasks.
    pub cached_workflows: usize,
    /// Threads that carry all of it. A worker mostly waits, and each further thread costs wake-ups: more processes scale
    /// better than more threads.
    pub threads: usize,
    /// Where the figures of the process can be read; nowhere without it.
    pub metrics_addr: Option<SocketAddr>,
    /// Its part in Temporal's versioning of workers; none without it.
    pub deployment: Option<WorkerDeployment>,
}

/// Reads what concerns workers.
pub(crate) fn read(values: &Values) -> Result<WorkerSettings, ConfigError> {
    let slots = |name| values.number(name, 1..=100_000, "1 to 100000");
    Ok(WorkerSettings {
        grace_secs: values.number("worker.grace_secs", 0..=86_400, "0 to 86400 seconds")?,
        activity_slots: slots("worker.activity_slots")?,
        local_activity_slots: slots("worker.local_activity_slots")?,
        workflow_slots: slots("worker.workflow_slots")?,
        cached_workflows: slots("worker.cached_workflows")?,
        threads: values.number("worker.threads", 1..=1_024, "1 to 1024")?,
        metrics_addr: values.optional("worker.metrics_addr", "IP:PORT", socket_addr)?,
        deployment: deployment(values)?,
    })
}

fn deployment(values: &Values) -> Result<Option<WorkerDeployment>, ConfigError> {
    // Temporal puts a dot between the two.
    let name = |name| values.optional(name, "a name without dots and spaces", deployment_name);
    let (build_id, promote) = (name("worker.build_id")?, values.required("worker.promote", "true or false", boolean)?);
    Ok(name("worker.deployment")?.map(|name| WorkerDeployment { name, build_id, promote }))
}

fn deployment_name(text: &str) -> Option<String> {
    let is_plain = !text.is_empty() && text.len() <= 200 && !text.contains(|c: char| c == '.' || c.is_whitespace());
    is_plain.then(|| text.to_owned())
}
