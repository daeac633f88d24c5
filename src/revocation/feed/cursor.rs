use std::fmt;

use super::entry::Half;
use crate::base::base64url;
use crate::storage::LogCursor;

/// No cursor of ours is longer: each transaction that is open adds some letters to it.
const LONGEST: usize = 16 * 1024;
/// Begins the place of a reader in the middle of a snapshot; no engine's place begins so.
const LISTING: u8 = b'~';

/// Where a reader of the feed is. As text `epoch.place`, the place in base64url; opaque to readers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cursor {
    /// It has what was committed up to this place of the log.
    Log(LogCursor),
    /// It is taking a snapshot in pages: it has the entries up to this name, and after the last page
    /// it has what was committed up to `base`.
    Listing {
        /// The name of the last entry that it has.
        after: Half,
        /// Where to go on after the snapshot.
        base: LogCursor,
    },
}

/// The text is no cursor of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor")]
pub struct MalformedCursor;

impl Cursor {
    /// Reads what a reader sent.
    pub fn parse(text: &str) -> Result<Self, MalformedCursor> {
        let (epoch, place) = text.split_once('.').ok_or(MalformedCursor)?;
        let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if text.len() > LONGEST || epoch.is_empty() || !epoch.bytes().all(fits) {
            return Err(MalformedCursor);
        }
        let place = base64url::decode(place).map_err(|_| MalformedCursor)?;
        let (after, place) = match place.split_first() {
            None => return Err(MalformedCursor),
            Some((&LISTING, rest)) => {
                let (after, rest) = rest.split_first_chunk().ok_or(MalformedCursor)?;
                (Some(*after), rest.to_vec())
            }
            Some(_) => (None, place),
        };
        let place = String::from_utf8(place).map_err(|_| MalformedCursor)?;
        let base = LogCursor { epoch: epoch.to_owned(), place };
        Ok(match after {
            Some(after) => Self::Listing { after, base },
            None => Self::Log(base),
        })
    }

    /// The place in the log that it names, or will.
    pub(super) fn base(&self) -> &LogCursor {
        match self {
            Self::Log(base) | Self::Listing { base, .. } => base,
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LogCursor { epoch, place } = self.base();
        let place = match self {
            Self::Log(_) => base64url::encode(place),
            Self::Listing { after, .. } => {
                base64url::encode([&[LISTING], &after[..], place.as_bytes()].concat())
            }
        };
        write!(f, "{epoch}.{place}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_nothing_else_is_one() {
        let base = LogCursor { epoch: "0a1b-c".into(), place: "10:20:11,13".into() };
        let listing = Cursor::Listing { after: [0xff; 16], base: base.clone() };
        for cursor in [Cursor::Log(base), listing] {
            assert_eq!(Cursor::parse(&cursor.to_string()), Ok(cursor));
        }
        let short = format!("e.{}", base64url::encode("~tooshort"));
        let long = format!("e.{}", "A".repeat(LONGEST));
        let bytes = format!("e.{}", base64url::encode([0xff, 0xfe]));
        for text in ["", ".", "e", "e.", ".MQ", "e.MR", "e.MQ==", "e f.MQ", &short, &long, &bytes] {
            assert_eq!(Cursor::parse(text), Err(MalformedCursor), "{text:.20}");
        }
    }
}
