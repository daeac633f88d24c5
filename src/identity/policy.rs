use thiserror::Error;
use zxcvbn::{Score, zxcvbn};

use super::Password;

/// Why a new password is refused. Nothing is asked of its composition, and nothing of its age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum WeakPassword {
    /// Fewer than 8 characters.
    #[error("a password has at least 8 characters; 15 are advised")]
    TooShort,
    /// One that is tried early: within the first million guesses.
    #[error("this password is easily guessed: it is common, or close to a common one or a name")]
    Common,
}

/// Checks a new password of someone who has these names (ASVS 6.2.1, 6.2.4 and 6.2.11). Existing
/// ones are never checked.
pub fn check(password: &Password, names: &[&str]) -> Result<(), WeakPassword> {
    let text = password.reveal();
    if text.chars().count() < 8 {
        return Err(WeakPassword::TooShort);
    }
    let lower = text.to_lowercase();
    let common = COMMON_ELSEWHERE.contains(&lower.as_str());
    // The 30,000 most common passwords, words, names, dates, keyboard walks, and what is made of
    // them: zxcvbn counts how many others would be tried before.
    if common || zxcvbn(text, names).score() < Score::Two {
        return Err(WeakPassword::Common);
    }
    Ok(())
}

/// Common ones that zxcvbn, whose lists are English, does not know; in lower case.
const COMMON_ELSEWHERE: [&str; 6] =
    ["fortnite", "ichliebedich", "contraseña", "haslo123", "admin@123", "pass@123"];

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Result<(), WeakPassword> {
        check(&Password::typed(text).unwrap(), &["ada.lovelace", "ada@analytical.example"])
    }

    #[test]
    fn short_passwords_are_refused_and_a_phrase_is_fine() {
        assert_eq!(checked("1234567"), Err(WeakPassword::TooShort));
        for fine in ["ein Käse und zwei Löffel", "qzxkvbtw", &"long and dull ".repeat(73)] {
            assert_eq!(checked(fine), Ok(()), "{fine}");
        }
    }

    #[test]
    fn common_passwords_and_what_is_close_to_them_are_refused() {
        for common in [
            "password",
            "Password1",
            "P@ssw0rd",
            "drowssap",
            "12345678",
            "87654321",
            "qwertyuiop",
            "1qaz2wsx",
            "zxcvbnm123",
            "iloveyou",
            "trustno1",
            "football9",
            "superman1",
            "zzzzzzzzz",
            "abcabcabc",
            "11223344",
            "sunshine",
            "princess",
            "letmein1",
            "Contraseña",
            "admin@123",
        ] {
            assert_eq!(checked(common), Err(WeakPassword::Common), "{common}");
        }
    }

    #[test]
    fn a_password_made_of_ones_own_name_is_refused() {
        assert_eq!(checked("Ada.Lovelace1"), Err(WeakPassword::Common));
    }
}
