//! The `pmp-auth` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    pmp_auth::cli::run()
}
