//! Secrets that are made at first start: the key ring and the pepper of memory and SQLite, and the client secrets
//! that the file leaves to us. Each is a file of mode 0600 beside the data, so
//! that the next start finds it again; `serve --dev` keeps them in memory only.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::secret_file;
use super::settings::{RingKey, SeedPassword, Settings, StorageEngine};
use crate::base::{CredentialKind, Digest, Entropy, Secret, base62, base64url};
use crate::model::{ClientId, TenantSlug};

/// A secret could not be kept, or the one that was kept cannot be read.
#[derive(Debug, Error)]
pub enum GenerateError {
    /// Creating or writing failed.
    #[error("cannot keep a generated secret in `{path}`: {error}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// The file is there and cannot be used.
    #[error("{message}\n    fix: {fix}")]
    Read {
        /// What is wrong.
        message: String,
        /// How to mend it.
        fix: String,
    },
}

/// A secret, and whether it was made just now (and is to be shown once).
#[derive(Debug, Clone)]
pub struct Kept {
    /// The secret.
    pub secret: Secret<String>,
    /// Whether it is new.
    pub created: bool,
    /// Where it is kept; none with `serve --dev`.
    pub path: Option<PathBuf>,
}

/// What was generated, or found again.
#[derive(Debug, Default)]
pub struct Generated {
    /// Clients' secrets.
    pub client_secrets: Vec<ClientSecretKept>,
    /// Users' passwords; `serve --dev` only, otherwise they are made when the user is.
    pub passwords: Vec<NewPassword>,
}

/// A client's generated secret.
#[derive(Debug, Clone)]
pub struct ClientSecretKept {
    /// Whose tenant.
    pub tenant: TenantSlug,
    /// Whose.
    pub client: ClientId,
    /// The secret.
    pub kept: Kept,
}

/// A user's password that nothing keeps.
#[derive(Debug, Clone)]
pub struct NewPassword {
    /// Whose tenant.
    pub tenant: TenantSlug,
    /// User name, else e-mail.
    pub login: String,
    /// The password.
    pub password: Secret<String>,
}

/// The secret in `dir/name`; `make` makes it when there is none. Of several processes that start
/// together one makes it, and all read the same.
pub fn ensure_secret(
    dir: &Path,
    name: &str,
    entropy: &dyn Entropy,
    make: impl FnOnce(&dyn Entropy) -> Secret<String>,
) -> Result<Kept, GenerateError> {
    let path = dir.join(name);
    let write = |error| GenerateError::Write { path: path.clone(), error };
    let mut created = false;
    if !path.exists() {
        create_dir(dir).map_err(write)?;
        let secret = make(entropy);
        // Written whole under another name, then linked: nobody reads half a secret.
        let draft = dir.join(format!(".{name}.{}", base62::encode(&entropy.bytes::<8>())));
        write_private(&draft, &secret).map_err(write)?;
        let linked = fs::hard_link(&draft, &path);
        let removed = fs::remove_file(&draft);
        match linked {
            Ok(()) => created = true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(write(error)),
        }
        removed.map_err(write)?;
    }
    let secret =
        secret_file::read(&path).map_err(|(message, fix)| GenerateError::Read { message, fix })?;
    Ok(Kept { secret, created, path: Some(path) })
}

fn create_dir(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

fn write_private(path: &Path, secret: &Secret<String>) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(secret.reveal().as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

/// Fills in what the file leaves to us: key ring and pepper when it names none, the secrets of the clients
/// with `client_secret: generate`, and for `serve --dev` the passwords. To be called once, at start.
pub fn complete(
    settings: &mut Settings,
    entropy: &dyn Entropy,
) -> Result<Generated, GenerateError> {
    if settings.server.secret_keys.is_empty() {
        let dir = settings.server.data_dir.clone();
        let kept = ensure(settings, &dir, "secret-keys", entropy, ring_secret)?;
        let secret = Secret::new(kept.secret.reveal().clone().into_bytes());
        settings.server.secret_keys.push(RingKey { id: 1, secret });
    }
    if settings.server.api_key_peppers.is_empty() && settings.server.generate_api_key_pepper {
        let dir = settings.server.data_dir.clone();
        let kept = ensure(settings, &dir, "api-key-pepper", entropy, ring_secret)?;
        let secret = Secret::new(kept.secret.reveal().clone().into_bytes());
        settings.server.api_key_peppers.push(RingKey { id: 1, secret });
    }
    let mut all = Generated::default();
    if keeps_nothing(settings) {
        all.passwords = passwords(settings, entropy);
    }
    let dir = settings.server.data_dir.join("secrets");
    let wanted: Vec<(TenantSlug, ClientId)> = settings
        .tenants
        .iter()
        .flat_map(|(slug, tenant)| {
            tenant.generated_secrets.iter().map(|client| (slug.clone(), client.clone()))
        })
        .collect();
    for (tenant, client) in wanted {
        let name = format!("{tenant}.{}.secret", file_name(client.as_str()));
        let kept = ensure(settings, &dir, &name, entropy, |entropy| {
            CredentialKind::ClientSecret.generate(entropy)
        })?;
        let clients = settings.tenants.get_mut(&tenant).map(|tenant| &mut tenant.clients);
        if let Some(found) = clients.and_then(|all| all.iter_mut().find(|c| c.id == client)) {
            found.secrets = vec![Digest::of(kept.secret.reveal().as_bytes())];
        }
        all.client_secrets.push(ClientSecretKept { tenant, client, kept });
    }
    Ok(all)
}

fn passwords(settings: &mut Settings, entropy: &dyn Entropy) -> Vec<NewPassword> {
    let mut made = Vec::new();
    for (tenant, settings) in &mut settings.tenants {
        for user in &mut settings.users {
            if matches!(user.password, SeedPassword::Generate) {
                let password = password(entropy);
                user.password = SeedPassword::Plain(password.clone());
                let login = user.username.clone().unwrap_or_else(|| user.email.clone());
                made.push(NewPassword { tenant: tenant.clone(), login, password });
            }
        }
    }
    made
}

/// Whether this is `serve --dev` in memory. What is sealed under a ring in memory dies with it, so
/// nothing has to outlive the run.
fn keeps_nothing(settings: &Settings) -> bool {
    settings.server.dev && matches!(settings.storage.engine, StorageEngine::Memory)
}

fn ensure(
    settings: &Settings,
    dir: &Path,
    name: &str,
    entropy: &dyn Entropy,
    make: impl FnOnce(&dyn Entropy) -> Secret<String>,
) -> Result<Kept, GenerateError> {
    if keeps_nothing(settings) {
        return Ok(Kept { secret: make(entropy), created: true, path: None });
    }
    ensure_secret(dir, name, entropy, make)
}

fn ring_secret(entropy: &dyn Entropy) -> Secret<String> {
    Secret::new(base64url::encode(entropy.bytes::<32>()))
}

/// 22 letters and digits: 128 bits, easy to select and to paste.
fn password(entropy: &dyn Entropy) -> Secret<String> {
    Secret::new(base62::encode(&entropy.bytes::<16>()))
}

/// A name as part of a file name: unusual characters are spelt in hexadecimal, so that no two names
/// meet and none leaves the directory.
fn file_name(name: &str) -> String {
    use std::fmt::Write as _;
    name.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'@') {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02x}");
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::SystemEntropy;

    #[test]
    fn names_cannot_leave_the_directory_or_meet() {
        assert_eq!(file_name("web-app"), "web-app");
        assert_eq!(file_name("../x"), "%2e%2e%2fx");
        assert_ne!(file_name("a.b"), file_name("a%2eb"));
    }

    #[test]
    fn generated_secrets_are_strong() {
        use super::super::strength::weakness;
        assert_eq!(weakness(ring_secret(&SystemEntropy).reveal().as_bytes(), 32), None);
        assert_eq!(weakness(password(&SystemEntropy).reveal().as_bytes(), 22), None);
    }
}
