//! `tokenhub migrate`: the schema, brought up to date.

use anyhow::Context;
use tokenhub_config::{Environment, Settings, SharedFlags};
use tokenhub_store::Store;

/// Runs the command.
pub async fn run(flags: SharedFlags) -> anyhow::Result<()> {
    let settings = Settings::load(&flags.into_flags(), &Environment::of_process())?.settings;
    tokenhub_telemetry::init(&settings.log_level, settings.log_format)?;
    std::fs::create_dir_all(&settings.data_dir).context("cannot make the data directory")?;
    migrate(&settings).await?;
    tracing::info!("the database is up to date");
    Ok(())
}

/// Brings the database of `settings` up to date.
pub(crate) async fn migrate(settings: &Settings) -> anyhow::Result<()> {
    let store = Store::open(&settings.database_url).await.context("cannot open the database")?;
    store.migrate().await.context("cannot bring the database up to date")
}
