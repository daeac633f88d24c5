use thiserror::Error;

use super::Password;

/// Why a new password is refused. Nothing is asked of its composition, and nothing of its age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WeakPassword {
    /// Fewer than 8 characters.
    #[error("a password has at least 8 characters; 15 are advised")]
    TooShort,
    /// One that everybody tries first.
    #[error("this password is among the most common ones")]
    Common,
}

/// Checks a new password (ASVS 6.2.1 and 6.2.4). Existing ones are never checked.
pub fn check(password: &Password) -> Result<(), WeakPassword> {
    let text = password.reveal();
    if text.chars().count() < 8 {
        return Err(WeakPassword::TooShort);
    }
    let lower = text.to_lowercase();
    if COMMON.lines().any(|common| common == lower) || is_one_letter(&lower) {
        return Err(WeakPassword::Common);
    }
    Ok(())
}

fn is_one_letter(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(|first| letters.all(|letter| letter == first))
}

/// Those of the most common passwords that have 8 characters or more, in lower case.
const COMMON: &str = include_str!("common_passwords.txt");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_common_passwords_are_refused_and_a_phrase_is_fine() {
        let check = |text: &str| check(&Password::typed(text).unwrap());
        assert_eq!(check("1234567"), Err(WeakPassword::TooShort));
        assert_eq!(check("Password1"), Err(WeakPassword::Common));
        assert_eq!(check("zzzzzzzzz"), Err(WeakPassword::Common));
        assert_eq!(check("ein Käse und zwei Löffel"), Ok(()));
    }

    #[test]
    fn every_listed_password_could_be_typed() {
        assert!(COMMON.lines().count() > 100);
        for common in COMMON.lines() {
            assert!(common.len() >= 8 && common == common.to_lowercase(), "{common}");
        }
    }
}
