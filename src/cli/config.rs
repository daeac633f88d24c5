use clap::{Args, Subcommand};

use super::desk::ConfigArg;
use super::exit::Failure;
use super::output;
use crate::config::warnings;

/// The configuration
#[derive(Debug, Args)]
pub(super) struct Config {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check the configuration whole, as `serve` would; exit code 3 when it has faults
    Check(ConfigArg),
}

impl Config {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Command::Check(config) = self.command;
        let settings = config.load()?;
        for warning in warnings(&settings) {
            output::talk(&format!("warning: {warning}"));
        }
        let count = settings.tenants.len();
        output::talk(&format!(
            "{} is good: {count} tenant{}",
            config.config.display(),
            if count == 1 { "" } else { "s" }
        ));
        for tenant in settings.tenants.values() {
            output::data(&tenant.issuer);
        }
        Ok(())
    }
}
