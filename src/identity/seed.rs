use std::io::Write as _;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::{Busy, Password, PasswordCost, PasswordTooLong, Passwords};
use crate::base::{Entropy, Secret, Timestamp, base62};
use crate::config::settings::{SeedPassword, SeedUser};
use crate::model::user::{LoginName, PasswordHash};
use crate::model::{Audit, TenantSlug, UserId};
use crate::storage::{CreateUser, NewUser, StoreError, TenantHandle};

/// Why the users of the configuration could not be made.
#[derive(Debug, Error)]
pub enum SeedError {
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A generated password could not be read or kept.
    #[error("cannot keep the generated password in {}: {source}", path.display())]
    File {
        /// Where it should be.
        path: PathBuf,
        /// Why it is not.
        source: std::io::Error,
    },
    /// A configured hash is not Argon2id, or of absurd cost.
    #[error("the password hash of `{login}` is not a usable Argon2id hash")]
    Hash {
        /// Whose.
        login: String,
    },
    /// A configured password is too long.
    #[error("the password of `{login}`: {source}")]
    TooLong {
        /// Whose.
        login: String,
        /// How long it may be.
        source: PasswordTooLong,
    },
    /// No memory to hash with.
    #[error(transparent)]
    Busy(#[from] Busy),
}

/// A user that was created now.
#[derive(Debug)]
pub struct Seeded {
    /// User name, else e-mail.
    pub login: String,
    /// The password, when it was generated now; to be printed this once.
    pub generated: Option<Generated>,
}

/// A password that was drawn at first start.
#[derive(Debug)]
pub struct Generated {
    /// The password.
    pub password: Secret<String>,
    /// The file that keeps it, readable by its owner only.
    pub file: PathBuf,
}

/// Where and with what users are made.
pub struct Nursery<'a> {
    /// The tenant's store.
    pub store: &'a TenantHandle,
    /// The tenant's name, for the names of files.
    pub slug: &'a TenantSlug,
    /// The hashing pool.
    pub passwords: &'a Passwords,
    /// For ids and generated passwords.
    pub entropy: &'a dyn Entropy,
    /// Generated passwords are kept below it.
    pub data_dir: &'a Path,
}

/// Creates the users of the configuration that are not there; those that are, are left alone,
/// whatever became of their names and passwords. Any number of nodes may do so at once.
pub async fn seed_users(
    nursery: &Nursery<'_>,
    users: &[SeedUser],
    now: Timestamp,
    audit: &Audit,
) -> Result<Vec<Seeded>, SeedError> {
    let mut made = Vec::new();
    for user in users {
        if nursery.knows(user).await? {
            continue;
        }
        let login = login_of(user).to_owned();
        let (password_hash, generated) = nursery.password(user).await?;
        let new = NewUser {
            id: UserId(nursery.entropy.uuid()),
            username: user.username.clone(),
            email: user.email.clone(),
            email_verified: true, // the operator says so
            name: user.name.clone(),
            given_name: user.given_name.clone(),
            family_name: user.family_name.clone(),
            password_hash: Some(password_hash),
        };
        match nursery.store.create_user(&new, now, audit).await? {
            CreateUser::Created => made.push(Seeded { login, generated }),
            CreateUser::Exists => {} // another node was first
        }
    }
    Ok(made)
}

fn login_of(user: &SeedUser) -> &str {
    user.username.as_deref().unwrap_or(&user.email)
}

impl Nursery<'_> {
    async fn knows(&self, user: &SeedUser) -> Result<bool, SeedError> {
        for login in user.username.iter().chain([&user.email]) {
            let login = LoginName::canonical(login);
            if self.store.find_user_by_login(&login).await?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn password(
        &self,
        user: &SeedUser,
    ) -> Result<(PasswordHash, Option<Generated>), SeedError> {
        let login = || login_of(user).to_owned();
        let (plain, generated) = match &user.password {
            SeedPassword::Hash(hash) => {
                PasswordCost::of(hash.reveal())
                    .ok_or_else(|| SeedError::Hash { login: login() })?;
                return Ok((hash.clone(), None));
            }
            SeedPassword::Plain(plain) => (plain.clone(), None),
            SeedPassword::Generate => self.generated(login_of(user))?,
        };
        let password = Password::typed(plain.reveal())
            .map_err(|source| SeedError::TooLong { login: login(), source })?;
        Ok((self.passwords.hash(password).await?, generated))
    }

    /// The password kept for this user, or a new one. The memory engine forgets its users at every
    /// start; the file makes sure that they come back with the same password.
    fn generated(&self, login: &str) -> Result<(Secret<String>, Option<Generated>), SeedError> {
        let directory = self.data_dir.join("passwords");
        let path = directory.join(format!("{}.{}", self.slug, file_name(login)));
        let fail = |source| SeedError::File { path: path.clone(), source };
        match std::fs::read_to_string(&path) {
            Ok(kept) => return Ok((Secret::new(kept.trim_end().to_owned()), None)),
            Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => {}
            Err(other) => return Err(fail(other)),
        }
        let password = Secret::new(base62::encode(&self.entropy.bytes::<15>()));
        create_private_dir(&directory).map_err(fail)?;
        write_private(&path, password.reveal()).map_err(fail)?;
        let generated = Generated { password: password.clone(), file: path };
        Ok((password, Some(generated)))
    }
}

/// A login as a file name: lower case, and whatever is not plain in hexadecimal.
fn file_name(login: &str) -> String {
    use std::fmt::Write as _;
    LoginName::canonical(login).as_str().bytes().fold(String::new(), |mut name, byte| {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'@' | b'.' => name.push(byte.into()),
            other => {
                let _ = write!(name, "~{other:02x}");
            }
        }
        name
    })
}

fn create_private_dir(path: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn write_private(path: &Path, password: &str) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    writeln!(file, "{password}")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_names_a_file_and_nothing_else() {
        assert_eq!(file_name("Ada@Example.com"), "ada@example.com");
        assert_eq!(file_name("../../etc/passwd"), "..~2f..~2fetc~2fpasswd");
        assert_eq!(file_name("zoë"), "zo~c3~ab");
    }
}
