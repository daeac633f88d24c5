//! Secrets in files of their own: `x_file` instead of `x`.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use zeroize::Zeroize as _;

use crate::base::Secret;

/// Larger files hold no secret of ours.
const MAX_BYTES: u64 = 64 * 1024;
/// Container runtimes put secrets here, readable for all users of the one container.
const CONTAINER_SECRETS: &str = "/run/secrets/";

/// Reads a secret, without the newline that editors put at its end. `Err` is (message, fix).
pub fn read(path: &Path) -> Result<Secret<String>, (String, String)> {
    let shown = path.display();
    let fail = |error: std::io::Error| {
        (format!("cannot read `{shown}`: {error}"), "name a file that this user can read".into())
    };
    let mut file = fs::File::open(path).map_err(fail)?;
    let metadata = file.metadata().map_err(fail)?;
    if !metadata.is_file() {
        return Err((format!("`{shown}` is no file"), "name a file that holds the secret".into()));
    }
    if is_world_readable(&metadata) && !path.starts_with(CONTAINER_SECRETS) {
        return Err((
            format!("every user of this machine can read `{shown}`"),
            format!("chmod 600 {shown}"),
        ));
    }
    if metadata.len() > MAX_BYTES {
        return Err((format!("`{shown}` is larger than 64 KiB"), "name the right file".into()));
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(fail)?;
    let end =
        text.strip_suffix('\n').map_or(text.len(), |t| t.strip_suffix('\r').unwrap_or(t).len());
    let secret = text[..end].to_owned();
    text.zeroize();
    if secret.is_empty() {
        return Err((format!("`{shown}` is empty"), "put the secret into it".into()));
    }
    Ok(Secret::new(secret))
}

#[cfg(unix)]
pub(super) fn is_world_readable(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    metadata.permissions().mode() & 0o004 != 0
}

#[cfg(not(unix))]
pub(super) fn is_world_readable(_: &fs::Metadata) -> bool {
    false
}
