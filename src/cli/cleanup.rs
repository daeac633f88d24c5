use clap::Args;
use serde_json::{Map, Value};

use super::desk::{ConfigArg, Desk};
use super::exit::Failure;
use super::output::{self, Format};
use crate::base::SystemClock;
use crate::jobs;
use crate::storage::Cleaned;

/// Delete what nothing needs any more; prints how many rows of each kind
#[derive(Debug, Args)]
pub(super) struct Cleanup {
    #[command(flatten)]
    config: ConfigArg,
    /// Only count what would be deleted
    #[arg(long)]
    dry_run: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

impl Cleanup {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let desk = Desk::open(&self.config).await?;
        let result = self.clean(&desk).await;
        desk.close().await;
        print(self.output, &result?);
        if self.dry_run {
            output::talk("nothing was deleted: these rows would be");
        }
        Ok(())
    }

    async fn clean(&self, desk: &Desk) -> Result<Cleaned, Failure> {
        if self.dry_run {
            return Ok(jobs::cleanup::dry_run(&*desk.store, desk.now).await?);
        }
        let batch = desk.settings.jobs.cleanup_batch;
        Ok(jobs::cleanup::run(&*desk.store, &SystemClock, batch).await?)
    }
}

fn print(format: Format, cleaned: &Cleaned) {
    let mut rows: Vec<Value> = Vec::new();
    let mut row = |kind: &str, count: u64| {
        let members = [("kind".to_owned(), kind.into()), ("rows".to_owned(), count.into())];
        rows.push(Value::Object(Map::from_iter(members)));
    };
    for (kind, count) in &cleaned.counts {
        row(kind.as_str(), *count);
    }
    row("total", cleaned.total());
    output::list(format, &["kind", "rows"], &rows);
}
