//! `tokenhub-bench`: what durability and the hub cost, measured on real processes in one interleaved run.
//!
//! Starts a scripted provider, Temporal, a worker and an API from the programs beside it, measures, prints a table,
//! writes JSON, and exits with 1 when an enforced bar is missed. Method and caveats are in README.md. Knows the product
//! only from outside: HTTP, processes and the file system; only `select` measures a function of it.

mod bare_workflow;
mod bars;
mod empty_proxy;
mod http;
mod installation;
mod kinds;
mod load;
mod measure;
mod nginx;
mod plan;
mod processes;
mod recovery;
mod report;
mod resources;
mod rounds;
mod select;
mod streams;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use bare_workflow::BareWorker;
use empty_proxy::EmptyProxy;
use installation::{Installation, TemporalDatabase};
use plan::{Plan, Size};

// What is compared with the product must not be slower for its allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures what durability and the hub cost.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Fewer of everything: a check that the bench works, not a measurement.
    #[arg(long)]
    quick: bool,
    /// Where the figures are written.
    #[arg(long, default_value = "bench/results/latest.json")]
    out: PathBuf,
    /// Where Temporal keeps its histories.
    #[arg(long, value_enum, default_value_t = TemporalDatabase::Memory)]
    temporal_database: TemporalDatabase,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// The worker of the bare workflow; started by the bench itself.
    #[command(hide = true)]
    BareWorker(BareWorker),
    /// The proxy that does nothing; started by the bench itself.
    #[command(hide = true)]
    EmptyProxy(EmptyProxy),
    /// Measures one selection among 200 deployments, and nothing else.
    Select,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    match arguments.part {
        Some(Part::BareWorker(worker)) => {
            worker.run().await?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Part::EmptyProxy(proxy)) => {
            tokio::task::block_in_place(|| proxy.run())?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(Part::Select) => return Ok(if select::run()? { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
        None => {}
    }
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    // Dropping the bench ends every process that it started, on a signal as on a failure.
    tokio::select! {
        passed = bench(&arguments) => passed,
        _ = terminate.recv() => Ok(ExitCode::FAILURE),
        _ = interrupt.recv() => Ok(ExitCode::FAILURE),
    }
}

async fn bench(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let plan = Plan::of(if arguments.quick { Size::Quick } else { Size::Full });
    let machine_before = resources::load_average();
    let mut installation = Installation::start(arguments.temporal_database).await?;
    let outcome = measure_all(&plan, &mut installation).await;
    let figures = outcome.with_context(|| format!("the last lines of the logs:\n{}", installation.last_log_lines()))?;
    drop(installation);
    let bars = bars::judge(&figures);
    let report = report::Report::new(arguments.temporal_database, &plan, &machine_before, figures, bars);
    report.print()?;
    report.write(&arguments.out).with_context(|| format!("writing {}", arguments.out.display()))?;
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn measure_all(plan: &Plan, installation: &mut Installation) -> anyhow::Result<report::Figures> {
    let mut lanes = kinds::Lanes::open(installation).await?;
    rounds::warm_up(plan, &mut lanes).await?;
    let idle = installation.memory()?;
    let rounds = rounds::run(plan, &mut lanes, installation).await?;
    drop(lanes);
    let http = load::http(plan, installation).await?;
    let streams = streams::measure(plan, installation).await?;
    let durable = load::durable(plan, installation, rounds.durable_chats()).await?;
    let after = installation.memory()?;
    let recovery = recovery::measure(plan, installation).await?;
    Ok(report::Figures { rounds, http, streams, durable, recovery, idle, after })
}
