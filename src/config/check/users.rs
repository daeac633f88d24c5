use std::collections::HashSet;
use std::ops::RangeInclusive;

use super::super::keys;
use super::super::read::{Item, Section};
use super::super::settings::{SeedPassword, SeedUser};
use super::secrets;
use crate::base::Secret;
use crate::model::user::LoginName;

/// Reads `tenants.<name>.users`.
pub(super) fn read(tenant: &Section<'_>, production: bool) -> Vec<SeedUser> {
    let mut seen = HashSet::new();
    let entries = tenant.get("users").map(|item| item.list()).unwrap_or_default();
    entries
        .into_iter()
        .filter_map(|entry| {
            let section = entry.section(&keys::USER);
            let email = section.require("email", "write `email: ada@example.com`");
            let email = email.and_then(|item| Some((email_of(&item)?, item)));
            let username = section.get("username");
            let username = username.and_then(|item| Some((username_of(&item)?, item)));
            for (name, item) in email.iter().chain(&username) {
                if !seen.insert(LoginName::canonical(name)) {
                    item.fault(
                        format!("`{name}` names another user of this tenant already"),
                        "names and addresses are unique, whatever their case",
                    );
                }
            }
            let password = password(&section, production);
            Some(SeedUser {
                username: username.map(|(name, _)| name),
                email: email?.0,
                name: section.words("name", 1..=200),
                given_name: section.words("given_name", 1..=100),
                family_name: section.words("family_name", 1..=100),
                password: password?,
            })
        })
        .collect()
}

fn email_of(item: &Item<'_>) -> Option<String> {
    let text = item.text()?;
    let fits = text.len() <= 254
        && !text
            .contains(|c: char| c.is_whitespace() || c.is_control() || "<>(),;:\\\"[]".contains(c))
        && text.split_once('@').is_some_and(|(local, domain)| {
            (1..=64).contains(&local.len())
                && !domain.contains('@')
                && domain.split('.').all(|label| !label.is_empty())
        });
    if fits {
        return Some(text.to_owned());
    }
    item.fault(format!("`{text}` is no e-mail address"), "write it like ada@example.com");
    None
}

fn username_of(item: &Item<'_>) -> Option<String> {
    let text = item.text()?;
    let fits = text.chars().count() <= 100
        && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '@');
    if fits {
        return Some(text.to_owned());
    }
    item.fault(
        format!("`{text}` is no user name"),
        "write 1 to 100 characters without space and `@`",
    );
    None
}

fn password(section: &Section<'_>, production: bool) -> Option<SeedPassword> {
    if let Some(item) = section.get("password_hash") {
        if let Some(other) = section.get("password").or_else(|| section.get("password_file")) {
            other.fault("`password_hash` is set too", "keep one of them");
        }
        return hash(&item).map(SeedPassword::Hash);
    }
    let generate = section.get("password").is_none_or(|item| item.as_text() == Some("generate"));
    if generate && section.get("password_file").is_none() {
        return Some(SeedPassword::Generate);
    }
    let (item, secret) = secrets::read(section, "password", "password_file", production)??;
    // NIST SP 800-63B §3.1.1.2: at least 8 characters; more than 1024 bytes only cost time.
    if secret.reveal().chars().count() < 8 || secret.reveal().len() > 1024 {
        item.fault("the password does not fit", "write 8 characters to 1024 bytes, or `generate`");
    } else if production {
        secrets::refuse_placeholder(&item, &secret);
    }
    Some(SeedPassword::Plain(secret))
}

fn hash(item: &Item<'_>) -> Option<Secret<String>> {
    let text = item.text()?;
    match check_hash(text) {
        Ok(()) => return Some(Secret::new(text.to_owned())),
        Err(message) => item.fault(
            message,
            "write a PHC string such as $argon2id$v=19$m=47104,t=1,p=1$…$…, within 184 MiB, 16 \
             passes and 16 lanes",
        ),
    }
    None
}

/// A PHC string of Argon2id whose evaluation has a bearable cost. A record that asks for more is an
/// attack or a mistake: one sign-in would stop the server.
fn check_hash(text: &str) -> Result<(), &'static str> {
    let parts: Vec<&str> = text.split('$').collect();
    let ["", algorithm, rest @ ..] = parts.as_slice() else {
        return Err("this is no PHC string");
    };
    if *algorithm != "argon2id" {
        return Err("only argon2id hashes are evaluated");
    }
    let ["v=19", parameters, salt, output] = rest else {
        return Err("this is no PHC string of argon2id version 19 with salt and hash");
    };
    let parameters: Vec<&str> = parameters.split(',').collect();
    let cost = match parameters.as_slice() {
        [m, t, p] => [("m=", m), ("t=", t), ("p=", p)]
            .map(|(name, text)| text.strip_prefix(name).and_then(|number| number.parse().ok())),
        _ => [None; 3],
    };
    let [Some(memory_kib), Some(passes), Some(lanes)]: [Option<u64>; 3] = cost else {
        return Err("its parameters are malformed");
    };
    if passes == 0 || lanes == 0 || memory_kib < 8 * lanes {
        return Err("its parameters are below what argon2id allows");
    }
    let worst_kib = 4 * 47_104;
    if memory_kib > worst_kib || passes > 16 || lanes > 16 || memory_kib * passes > 2 * worst_kib {
        return Err("checking one password by it would cost too much");
    }
    // base64 without padding: 8 to 48 bytes of salt, 16 to 64 of hash.
    if !is_base64(salt, 11..=64) || !is_base64(output, 22..=86) {
        return Err("its salt or its hash is malformed, too short or too long");
    }
    Ok(())
}

fn is_base64(text: &str, letters: RangeInclusive<usize>) -> bool {
    letters.contains(&text.len())
        && text.len() % 4 != 1
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT_AND_HASH: &str =
        "c29tZXNhbHRzb21lc2FsdA$RdescudvJCsgt3ub+b4dWRWJTmaaJObG5K0Vb5VvT6s";

    #[test]
    fn a_hash_within_bounds_is_taken() {
        assert_eq!(check_hash(&format!("$argon2id$v=19$m=47104,t=1,p=1${SALT_AND_HASH}")), Ok(()));
    }

    #[test]
    fn malformed_foreign_and_costly_hashes_are_refused() {
        for bad in [
            "",
            "hunter2",
            "$argon2id$",
            "$argon2id$v=19$m=47104,t=1,p=1$c29tZXNhbHRzb21lc2FsdA",
            "$2b$12$C6UzMDM.H6dfI/f/IKcEeO7ZR5QYrC4wQX1nB5b2a9l0J8h9Jm0e6",
        ] {
            assert!(check_hash(bad).is_err(), "{bad}");
        }
        for head in [
            "argon2id$v=19$m=4294967295,t=1000,p=1",
            "argon2id$v=19$m=4294967296,t=1,p=1",
            "argon2id$v=19$m=188417,t=1,p=1",
            "argon2id$v=19$m=188416,t=3,p=1",
            "argon2id$v=19$m=8,t=17,p=1",
            "argon2id$m=65536,t=1,p=1",
            "argon2id$v=19$m=65536,t=1",
            "argon2id$v=19$m=65536,t=1,p=17",
            "argon2id$v=19$m=65536,t=0,p=1",
            "argon2id$v=16$m=65536,t=1,p=1",
            "argon2i$v=19$m=65536,t=1,p=1",
            "argon2id$v=19$m=1,t=1,p=1",
        ] {
            assert!(check_hash(&format!("${head}${SALT_AND_HASH}")).is_err(), "{head}");
        }
    }
}
