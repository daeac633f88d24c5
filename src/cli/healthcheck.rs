use std::net::SocketAddr;

use clap::Args;

use super::desk::ConfigArg;
use super::exit::Failure;
use crate::fetch::{Loopback, Outgoing};

/// Ask the server on this machine whether it is ready; exit code 0 when it is
#[derive(Debug, Args)]
pub(super) struct Healthcheck {
    #[command(flatten)]
    config: ConfigArg,
    /// Where it listens; from the configuration when left out
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
}

impl Healthcheck {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let address = match self.listen {
            Some(address) => address,
            None => self.config.load()?.server.listen,
        };
        let server = Loopback::new(address)?;
        let url = format!("http://{address}/readyz");
        let outgoing = Outgoing { url: &url, ..Outgoing::default() };
        let answer = server.send(outgoing).await;
        let answer = answer.map_err(|error| Failure::because(format!("{address}: {error}")))?;
        if answer.status == 200 {
            return Ok(());
        }
        let why = String::from_utf8_lossy(&answer.body);
        Err(Failure::because(format!("not ready ({}): {}", answer.status, why.trim())))
    }
}
