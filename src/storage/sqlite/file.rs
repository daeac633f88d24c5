use std::io;
use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};

/// How every connection of ours is opened, the migration's too: WAL, durable at commit, foreign
/// keys enforced, free pages given back in steps.
pub fn connect_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .busy_timeout(Duration::from_secs(5))
        .auto_vacuum(SqliteAutoVacuum::Incremental)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        // A checkpoint gives the space of a log that grew during a long read back.
        .pragma("journal_size_limit", "67108864")
        .pragma("trusted_schema", "off")
        .statement_cache_capacity(256)
        .thread_name(|n| format!("sqlite-{n}"))
}

/// Makes sure that the file is there, readable by its owner only, in a directory that is so too.
/// SQLite gives `-wal` and `-shm` the mode of the file itself. What exists is left as it is.
pub async fn prepare_file(path: &Path) -> io::Result<()> {
    if let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
        let mut builder = tokio::fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        builder.mode(0o700);
        builder.create(directory).await?;
    }
    let mut options = tokio::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    options.mode(0o600);
    match options.open(path).await {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}
