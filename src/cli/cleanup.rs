use clap::Args;
use serde_json::{Map, Value};

use super::desk::{ConfigArg, Desk};
use super::exit::Failure;
use super::output::{self, Format};
use crate::storage::Cleaned;

/// Delete what nothing needs any more; prints how many rows of each kind
#[derive(Debug, Args)]
pub struct Cleanup {
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
        Ok(())
    }

    async fn clean(&self, desk: &Desk) -> Result<Cleaned, Failure> {
        let batch = desk.settings.jobs.cleanup_batch;
        let mut all = Cleaned::default();
        loop {
            let limit = if self.dry_run { u32::MAX } else { batch };
            let cleaned = desk.store.cleanup_expired_data(desk.now, limit, self.dry_run).await?;
            let more = cleaned.more && !self.dry_run;
            add(&mut all, cleaned);
            if !more {
                return Ok(all);
            }
        }
    }
}

fn add(all: &mut Cleaned, one: Cleaned) {
    for (kind, count) in one.counts {
        match all.counts.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, sum)) => *sum += count,
            None => all.counts.push((kind, count)),
        }
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
