//! The command line: one file a command, and [`output`] for how we speak.
//!
//! Exit codes: 0 done, 1 it could not be done, 2 wrong usage, 3 the configuration has faults, 4
//! migrations are pending.

mod api_keys;
mod cleanup;
mod clients;
mod config;
mod demo;
mod desk;
mod exit;
mod healthcheck;
mod keys;
mod login;
mod migrate;
pub mod output;
mod serve;
mod sign_ins;
mod tenants;
mod token;
mod tokens;
mod users;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use exit::Failure;

/// A multi-tenant OAuth 2 and OpenID Connect authorization server
#[derive(Debug, Parser)]
#[command(name = "pmp-auth", version, propagate_version = true, arg_required_else_help = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Config(config::Config),
    Migrate(migrate::Migrate),
    Tenants(tenants::Tenants),
    Clients(clients::Clients),
    Users(users::Users),
    Keys(keys::Keys),
    ApiKeys(api_keys::ApiKeys),
    Tokens(tokens::Tokens),
    Cleanup(cleanup::Cleanup),
    Login(login::Login),
    Token(token::Token),
    Logout(token::Logout),
    Demo(demo::Demo),
    Healthcheck(healthcheck::Healthcheck),
}

/// Runs the command that the arguments name.
pub fn run() -> ExitCode {
    let command = CommandLine::parse().command;
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::because(error).report(),
    };
    runtime.block_on(command.run()).unwrap_or_else(Failure::report)
}

impl Command {
    async fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Serve(command) => command.run().await?,
            Self::Config(command) => command.run()?,
            Self::Migrate(command) => return command.run().await,
            Self::Tenants(command) => command.run().await?,
            Self::Clients(command) => command.run().await?,
            Self::Users(command) => command.run().await?,
            Self::Keys(command) => command.run().await?,
            Self::ApiKeys(command) => command.run().await?,
            Self::Tokens(command) => command.run().await?,
            Self::Cleanup(command) => command.run().await?,
            Self::Login(command) => command.run().await?,
            Self::Token(command) => command.run().await?,
            Self::Logout(command) => command.run().await?,
            Self::Demo(command) => command.run().await?,
            Self::Healthcheck(command) => command.run().await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}
