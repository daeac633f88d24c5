//! How durations and sizes are written.

use std::time::Duration;

/// Reads `60s`, `10m`, `12h`, `30d` or `500ms`; whole numbers only. `Err` says what is wrong.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    if number.is_empty() {
        return Err(format!("`{text}` is no duration"));
    }
    let number: u64 = number.parse().map_err(|_| format!("`{text}` is too long"))?;
    let seconds = match unit {
        "ms" => return Ok(Duration::from_millis(number)),
        "s" => Some(number),
        "m" => number.checked_mul(60),
        "h" => number.checked_mul(3600),
        "d" => number.checked_mul(86_400),
        "" if number == 0 => Some(0),
        "" => return Err(format!("`{text}` has no unit")),
        _ => return Err(format!("`{text}` is no duration")),
    };
    seconds.map(Duration::from_secs).ok_or_else(|| format!("`{text}` is too long"))
}

/// Spells a duration in the largest unit that fits.
pub(super) fn spell(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if duration.subsec_millis() != 0 {
        return format!("{}ms", duration.as_millis());
    }
    for (unit, length) in [("d", 86_400), ("h", 3600), ("m", 60)] {
        if seconds >= 2 * length && seconds.is_multiple_of(length) {
            return format!("{}{unit}", seconds / length);
        }
    }
    format!("{seconds}s")
}

/// Reads `256MiB`, `1GiB` or `64KiB` as bytes.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let factor = match unit {
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(format!("`{text}` is no size")),
    };
    let number: u64 = number.parse().map_err(|_| format!("`{text}` is no size"))?;
    number.checked_mul(factor).ok_or_else(|| format!("`{text}` is too large"))
}

fn split(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_number_and_a_unit() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("30d"), Ok(Duration::from_hours(30 * 24)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        for bad in ["", "10", "-5s", "1.5h", "10 m", "10M", "ten minutes", "NaN", "s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert!(duration("99999999999999999999d").is_err());
        assert!(duration("9999999999999999999d").is_err(), "overflow");
    }

    #[test]
    fn a_duration_is_spelt_as_one_would_write_it() {
        for text in ["60s", "10m", "24h", "30d", "500ms", "0s"] {
            assert_eq!(spell(duration(text).unwrap()), text);
        }
    }

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(size("256MiB"), Ok(268_435_456));
        for bad in ["256", "256MB", "MiB", "-1MiB", "99999999999GiB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
