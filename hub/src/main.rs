//! `tokenhub`: the command line; each command is in the library.

use clap::{Parser, Subcommand};
use tokenhub_config::SharedFlags;
use tokenhub_hub::{ConfigCommand, UpArguments};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An LLM gateway whose work survives crashes.
#[derive(Parser)]
#[command(name = "tokenhub", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Starts everything on this machine: Temporal, a worker, the API and, without a provider, local models
    Up(UpArguments),
    /// Brings the database up to date
    Migrate(SharedFlags),
    /// Shows or checks the configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // The first provider that is installed wins, and there is only one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match Arguments::parse().command {
        Command::Up(arguments) => tokenhub_hub::run_up(arguments).await,
        Command::Migrate(flags) => tokenhub_hub::run_migrate(flags).await,
        Command::Config { command } => tokenhub_hub::run_config(command),
    }
}
