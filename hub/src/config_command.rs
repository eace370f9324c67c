//! `tokenhub config`: what the processes would see, without starting one.

use std::io::{self, Write as _};

use tokenhub_config::{Environment, ListenFlags, Loaded, Settings, SharedFlags};

/// What to do with the configuration.
#[derive(clap::Subcommand)]
pub enum ConfigCommand {
    /// Prints every setting, secrets masked
    Show {
        /// Prints where each value came from, too
        #[arg(long)]
        origin: bool,
        /// The flags that the process would be started with
        #[command(flatten)]
        shared: SharedFlags,
        /// Those of the processes that serve HTTP
        #[command(flatten)]
        listen: ListenFlags,
    },
    /// Says whether the configuration is valid; the exit code is 1 when it is not
    Check {
        /// The flags that the process would be started with
        #[command(flatten)]
        shared: SharedFlags,
    },
}

/// Runs the command.
pub fn run(command: ConfigCommand) -> anyhow::Result<()> {
    let environment = Environment::of_process();
    let mut out = io::stdout().lock();
    match command {
        ConfigCommand::Show { origin, shared, listen } => {
            let mut flags = shared.into_flags();
            listen.add_to(&mut flags);
            let Loaded { origins, warnings, .. } = Settings::load(&flags, &environment)?;
            if origin {
                write!(out, "{}", origins.show())?;
            } else {
                for row in origins.rows() {
                    writeln!(out, "{} = {}", row.name, row.value)?;
                }
            }
            warn(&warnings)
        }
        ConfigCommand::Check { shared } => {
            let Loaded { settings, warnings, .. } = Settings::load(&shared.into_flags(), &environment)?;
            let (providers, models) = (settings.catalogue.providers.len(), settings.catalogue.models.len());
            writeln!(out, "valid: {providers} providers, {models} models")?;
            warn(&warnings)
        }
    }
}

fn warn(warnings: &[String]) -> anyhow::Result<()> {
    for warning in warnings {
        writeln!(io::stderr(), "warning: {warning}")?;
    }
    Ok(())
}
