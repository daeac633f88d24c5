//! Sign-ins that outlive the command: a file for each issuer and client, for its owner alone.
//!
//! The file is replaced whole, so that a crash leaves the old one or the new one; a lock beside it
//! keeps two processes from using one refresh token twice.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::device::Tokens;
use crate::base::{Digest, Secret, Timestamp, hex};

/// A sign-in.
#[derive(Debug, Clone)]
pub struct SignIn {
    /// Where.
    pub issuer: String,
    /// As which client.
    pub client_id: String,
    /// The file that holds the client's secret, for servers that want one of devices.
    pub secret_file: Option<PathBuf>,
    /// The access token.
    pub access: Secret<String>,
    /// When it ends, where the server said so.
    pub expires_at: Option<Timestamp>,
    /// The refresh token.
    pub refresh: Option<Secret<String>>,
    /// What was granted, where the server said so.
    pub scope: Option<String>,
}

impl SignIn {
    /// The same sign-in with new tokens. A refresh token that was not replaced stays (RFC 6749 §6).
    #[must_use]
    pub fn with(self, tokens: Tokens, now: Timestamp) -> Self {
        Self {
            access: tokens.access,
            expires_at: tokens.expires_in.map(|life| now.plus(life)),
            refresh: tokens.refresh.or(self.refresh),
            scope: tokens.scope.or(self.scope),
            ..self
        }
    }

    /// Whether the access token lives for `at_least` more.
    pub fn is_fresh(&self, at_least: Duration, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| end.since(now) >= at_least)
    }
}

/// The file's text.
#[derive(Serialize, Deserialize)]
struct Record {
    issuer: String,
    client_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_secret_file: Option<PathBuf>,
    access_token: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
}

/// Why a sign-in cannot be kept or read.
#[derive(Debug, Error)]
pub enum KeepError {
    /// The file system says no.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Others could have read it.
    #[error("others can read {0}\n    fix: chmod 600 {0}, or sign in again")]
    NotPrivate(String),
    /// Not what we wrote.
    #[error("{0} is damaged\n    fix: remove it and sign in again")]
    Damaged(String),
    /// Another process holds the lock.
    #[error("another pmp-auth has been using {0} for half a minute")]
    Busy(String),
}

/// The folder of sign-ins.
#[derive(Debug, Clone)]
pub struct Keeper {
    folder: PathBuf,
}

/// The right to change one sign-in; ends when dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

const PATIENCE: Duration = Duration::from_secs(30);
const BETWEEN_TRIES: Duration = Duration::from_millis(50);
const MOST_BYTES: u64 = 256 * 1024;

impl Keeper {
    /// Sign-ins below `data_home` (`$XDG_DATA_HOME`).
    pub fn below(data_home: &Path) -> Self {
        Self { folder: data_home.join("pmp-auth").join("sign-ins") }
    }

    /// The file of a sign-in.
    pub fn path(&self, issuer: &str, client_id: &str) -> PathBuf {
        self.folder.join(format!("{}.json", name(issuer, client_id)))
    }

    /// Waits for the right to change a sign-in, at most half a minute.
    pub async fn lock(&self, issuer: &str, client_id: &str) -> Result<Lock, KeepError> {
        let path = self.folder.join(format!("{}.lock", name(issuer, client_id)));
        let failed = |error| KeepError::Io { path: path.clone(), error };
        private_folder(&self.folder).map_err(failed)?;
        let file = private().create(true).truncate(false).open(&path).map_err(failed)?;
        let begun = tokio::time::Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock { _file: file }),
                Err(TryLockError::WouldBlock) if begun.elapsed() < PATIENCE => {
                    tokio::time::sleep(BETWEEN_TRIES).await;
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(KeepError::Busy(path.display().to_string()));
                }
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
    }

    /// The sign-in at an issuer, if there is one.
    pub fn find(&self, issuer: &str, client_id: &str) -> Result<Option<SignIn>, KeepError> {
        read(&self.path(issuer, client_id))
    }

    /// All sign-ins.
    pub fn all(&self) -> Result<Vec<SignIn>, KeepError> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(KeepError::Io { path: self.folder.clone(), error }),
        };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|ending| ending == "json"));
        paths.sort();
        paths.iter().filter_map(|path| read(path).transpose()).collect()
    }

    /// Keeps a sign-in, in place of the old one. To be called under its lock.
    pub fn keep(&self, sign_in: &SignIn) -> Result<PathBuf, KeepError> {
        let path = self.path(&sign_in.issuer, &sign_in.client_id);
        let draft = path.with_extension("new");
        let written = write(&draft, sign_in).and_then(|()| fs::rename(&draft, &path));
        let written = written.and_then(|()| File::open(&self.folder)?.sync_all());
        written.map_err(|error| KeepError::Io { path: path.clone(), error })?;
        Ok(path)
    }

    /// Forgets a sign-in. To be called under its lock.
    pub fn forget(&self, issuer: &str, client_id: &str) -> Result<(), KeepError> {
        let path = self.path(issuer, client_id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(KeepError::Io { path, error })
            }
            _ => Ok(()),
        }
    }
}

/// No two pairs share a name, and none leaves the folder.
fn name(issuer: &str, client_id: &str) -> String {
    let issuer = issuer.trim_end_matches('/');
    let digest = Digest::<()>::of(format!("{issuer}\n{client_id}").as_bytes());
    hex(&digest.as_bytes()[..16])
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

fn write(draft: &Path, sign_in: &SignIn) -> io::Result<()> {
    let record = Record {
        issuer: sign_in.issuer.clone(),
        client_id: sign_in.client_id.clone(),
        client_secret_file: sign_in.secret_file.clone(),
        access_token: sign_in.access.reveal().clone(),
        expires_at: sign_in.expires_at.map(Timestamp::seconds),
        refresh_token: sign_in.refresh.as_ref().map(|token| token.reveal().clone()),
        scope: sign_in.scope.clone(),
    };
    let text = Secret::new(serde_json::to_string_pretty(&record)?);
    // One that a crash left behind may have another mode.
    if let Err(error) = fs::remove_file(draft)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = private().create_new(true).open(draft)?;
    file.write_all(text.reveal().as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

fn read(path: &Path) -> Result<Option<SignIn>, KeepError> {
    let failed = |error| KeepError::Io { path: path.to_owned(), error };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let shown = || path.display().to_string();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        if file.metadata().map_err(failed)?.permissions().mode() & 0o077 != 0 {
            return Err(KeepError::NotPrivate(shown()));
        }
    }
    let mut text = String::new();
    file.take(MOST_BYTES).read_to_string(&mut text).map_err(failed)?;
    let text = Secret::new(text);
    let record: Record =
        serde_json::from_str(text.reveal()).map_err(|_| KeepError::Damaged(shown()))?;
    Ok(Some(SignIn {
        issuer: record.issuer,
        client_id: record.client_id,
        secret_file: record.client_secret_file,
        access: Secret::new(record.access_token),
        expires_at: record.expires_at.map(Timestamp::from_seconds),
        refresh: record.refresh_token.map(Secret::new),
        scope: record.scope,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("pmp-auth-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn sign_in(issuer: &str) -> SignIn {
        SignIn {
            issuer: issuer.to_owned(),
            client_id: "cli".to_owned(),
            secret_file: None,
            access: Secret::new("a".to_owned()),
            expires_at: Some(Timestamp::from_seconds(100)),
            refresh: Some(Secret::new("r".to_owned())),
            scope: None,
        }
    }

    #[tokio::test]
    async fn a_sign_in_is_kept_for_its_owner_alone_and_found_again() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = Folder::new("kept");
        let keeper = Keeper::below(&folder.0);
        assert!(keeper.find("https://a", "cli").unwrap().is_none());
        let _lock = keeper.lock("https://a", "cli").await.unwrap();
        let path = keeper.keep(&sign_in("https://a")).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        let found = keeper.find("https://a/", "cli").unwrap().expect("the slash does not count");
        assert_eq!(
            (found.access.reveal().as_str(), found.expires_at.unwrap().seconds()),
            ("a", 100)
        );
        assert!(keeper.find("https://a", "other").unwrap().is_none());
        assert_eq!(keeper.all().unwrap().len(), 1);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(keeper.find("https://a", "cli"), Err(KeepError::NotPrivate(_))));
        keeper.forget("https://a", "cli").unwrap();
        assert!(keeper.all().unwrap().is_empty());
    }

    #[tokio::test]
    async fn only_one_process_at_a_time_may_change_a_sign_in() {
        let folder = Folder::new("lock");
        let keeper = Keeper::below(&folder.0);
        let held = keeper.lock("https://a", "cli").await.unwrap();
        keeper.lock("https://b", "cli").await.unwrap();
        let second = keeper.lock("https://a", "cli");
        let short = Duration::from_millis(200);
        assert!(tokio::time::timeout(short, second).await.is_err(), "it waits");
        drop(held);
        keeper.lock("https://a", "cli").await.unwrap();
    }

    #[test]
    fn a_token_that_ends_within_the_minute_is_not_fresh() {
        let at = Timestamp::from_seconds;
        let minute = Duration::from_mins(1);
        assert!(sign_in("x").is_fresh(minute, at(40)));
        assert!(!sign_in("x").is_fresh(minute, at(41)));
        assert!(SignIn { expires_at: None, ..sign_in("x") }.is_fresh(minute, at(1_000_000)));
    }

    #[test]
    fn a_refresh_token_that_was_not_replaced_stays() {
        let new = Tokens {
            access: Secret::new("b".to_owned()),
            expires_in: Some(Duration::from_secs(5)),
            refresh: None,
            scope: None,
        };
        let next = sign_in("x").with(new, Timestamp::from_seconds(10));
        assert_eq!(next.refresh.unwrap().reveal(), "r");
        assert_eq!(next.expires_at.unwrap().seconds(), 15);
    }
}
