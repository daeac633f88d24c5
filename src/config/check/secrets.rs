use super::super::read::{Item, Section};
use super::super::{secret_file, strength};
use crate::base::Secret;

/// Reads the secret `key`, or the file that `file_key` names. `None`: there is one, and it cannot
/// be used; `Some(None)`: neither is set.
#[expect(clippy::option_option, reason = "absent and unusable are two things")]
pub(super) fn read<'a>(
    section: &Section<'a>,
    key: &str,
    file_key: &str,
    production: bool,
) -> Option<Option<(Item<'a>, Secret<String>)>> {
    match (section.get(key), section.get(file_key)) {
        (None, None) => Some(None),
        (Some(_), Some(file)) => {
            file.fault(format!("both `{key}` and `{file_key}` are set"), "keep one of them");
            None
        }
        (None, Some(file)) => from_file(file).map(Some),
        (Some(item), None) => {
            let text = item.text()?;
            if production && !item.is_from_environment() {
                item.fault(
                    "a secret stands in the file in plain text",
                    format!("put it into a file of mode 600 and name that as `{file_key}`"),
                );
            }
            let secret = Secret::new(text.to_owned());
            Some(Some((item, secret)))
        }
    }
}

fn from_file(item: Item<'_>) -> Option<(Item<'_>, Secret<String>)> {
    match secret_file::read(&item.source.resolve(item.text()?)) {
        Ok(secret) => Some((item, secret)),
        Err((message, fix)) => {
            item.fault(message, fix);
            None
        }
    }
}

/// Notes a fault when `secret` could be guessed.
pub(super) fn refuse_weak(item: &Item<'_>, secret: &Secret<String>, min_bytes: usize) {
    if let Some(weakness) = strength::weakness(secret.reveal().as_bytes(), min_bytes) {
        item.fault(
            format!("the secret is weak: {weakness}"),
            "make one with `openssl rand -base64 32`",
        );
    }
}

/// Notes a fault when `secret` is a placeholder or a published sample.
pub(super) fn refuse_placeholder(item: &Item<'_>, secret: &Secret<String>) {
    if let Some(weakness) = strength::placeholder(secret.reveal().as_bytes()) {
        item.fault(
            format!("the secret is weak: {weakness}"),
            "make one with `openssl rand -base64 24`",
        );
    }
}
