use std::process::ExitCode;

use super::output;
use crate::config::Faults;

/// Why a command failed; decides the exit code. 0 is success, 2 is clap's for wrong usage.
#[derive(Debug)]
pub(super) enum Failure {
    /// 1: it could not be done.
    Failed(String),
    /// 3: the configuration has faults.
    Configuration(Faults),
}

impl Failure {
    /// It could not be done, because of `why`.
    pub(super) fn because(why: impl std::fmt::Display) -> Self {
        Self::Failed(why.to_string())
    }

    /// Says what went wrong and gives the exit code.
    pub(super) fn report(self) -> ExitCode {
        match self {
            Self::Failed(why) => {
                output::talk(&format!("error: {why}"));
                ExitCode::from(1)
            }
            Self::Configuration(faults) => {
                output::talk(&faults.to_string());
                ExitCode::from(3)
            }
        }
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.contains(&cause_text) {
                text = format!("{text}: {cause_text}");
            }
            source = cause.source();
        }
        Self::Failed(text)
    }
}
