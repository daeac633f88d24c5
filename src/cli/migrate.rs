use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::desk::ConfigArg;
use super::exit::Failure;
use super::output::{self, Format};
use crate::config::settings::StorageEngine;
use crate::migrate::{self, Report};

/// The schema of the database
#[derive(Debug, Args)]
pub(super) struct Migrate {
    #[command(flatten)]
    config: ConfigArg,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Apply what is pending; one runner works at a time, others wait for it
    Up {
        /// How long to wait for another runner
        #[arg(long, default_value_t = 60, value_name = "SECONDS")]
        wait: u64,
    },
    /// Show what is applied and what is pending; exit code 4 when something is pending
    Status {
        /// How to print
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
}

impl Migrate {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        let settings = self.config.load()?;
        let engine = &settings.storage.engine;
        if matches!(engine, StorageEngine::Memory) {
            output::talk("memory storage has no schema");
            return Ok(ExitCode::SUCCESS);
        }
        match self.command {
            Command::Up { wait } => {
                let report = up(engine, Duration::from_secs(wait)).await?;
                for (name, took) in &report.applied {
                    output::data(&format!("applied {name} in {} ms", took.as_millis()));
                }
                if report.applied.is_empty() {
                    output::talk("the schema is up to date");
                }
                Ok(ExitCode::SUCCESS)
            }
            Command::Status { output } => {
                let report = status(engine).await?;
                print(output, &report);
                Ok(if report.is_current() { ExitCode::SUCCESS } else { ExitCode::from(4) })
            }
        }
    }
}

async fn up(engine: &StorageEngine, wait: Duration) -> Result<Report, Failure> {
    Ok(match engine {
        StorageEngine::Memory => Report::default(),
        StorageEngine::Sqlite { path } => migrate::sqlite::up_within(path, wait).await?,
        StorageEngine::Postgres { connection, .. } => {
            migrate::postgres::up_within(connection, wait).await?
        }
    })
}

async fn status(engine: &StorageEngine) -> Result<Report, Failure> {
    Ok(match engine {
        StorageEngine::Memory => Report::default(),
        StorageEngine::Sqlite { path } => migrate::sqlite::status(path).await?,
        StorageEngine::Postgres { connection, .. } => migrate::postgres::status(connection).await?,
    })
}

fn print(format: Format, report: &Report) {
    let row = |name: &String, state: &str| json!({"migration": name, "state": state});
    let mut rows: Vec<_> = report.present.iter().map(|name| row(name, "executed")).collect();
    rows.extend(report.pending.iter().map(|name| row(name, "pending")));
    output::list(format, &["migration", "state"], &rows);
    if format == Format::Table {
        let (executed, pending) = (report.present.len(), report.pending.len());
        output::data(&format!(
            "Summary: {executed} executed, {pending} pending, {} total",
            executed + pending
        ));
    }
}
