use chrono::{Datelike as _, NaiveDate};
use croner::parser::{CronParser, Seconds, Year};

use super::super::read::{Item, Section};
use super::super::settings::Jobs;

const EVERY_TEN_MINUTES: &str = "*/10 * * * *";

/// Reads `jobs`.
pub(super) fn read(section: &Section<'_>) -> Jobs {
    let cleanup = match section.get("cleanup") {
        None => Some(EVERY_TEN_MINUTES.to_owned()),
        Some(item) if item.as_text() == Some("off") => None,
        Some(item) => cron(&item),
    };
    let batch = section.get("cleanup_batch").and_then(|item| item.number(1..=100_000));
    Jobs { cleanup, cleanup_batch: batch.unwrap_or(1000) }
}

fn cron(item: &Item<'_>) -> Option<String> {
    let text = item.text()?;
    match check(text) {
        Ok(()) => return Some(text.to_owned()),
        Err(message) => item.fault(
            message,
            "write minute, hour, day, month and weekday, as in \"*/10 * * * *\", or off",
        ),
    }
    None
}

fn check(text: &str) -> Result<(), String> {
    if text.split_whitespace().count() != 5 {
        return Err(format!("`{text}` does not have five fields"));
    }
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    let cron = parser.parse(text).map_err(|error| format!("`{text}` is no schedule: {error}"))?;
    // A pattern of five fields comes round within 40 years: the longest gap is that of a 29 February
    // on one weekday across a century without one.
    let mut days = NaiveDate::default().iter_days().take(40 * 366);
    let fires = |day: NaiveDate| {
        cron.pattern.month_match(day.month()).unwrap_or(false)
            && cron.pattern.day_match(day.year(), day.month(), day.day()).unwrap_or(false)
    };
    if days.any(fires) {
        return Ok(());
    }
    Err(format!("`{text}` never fires"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_fields_that_fire_some_day_are_a_schedule() {
        for good in ["*/10 * * * *", "0 3 * * *", "0 0 29 2 *", "15 4 * * MON-FRI", "0 0 1 JAN *"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["", "* * * *", "* * * * * *", "@hourly", "61 * * * *", "a b c d e"] {
            assert!(check(bad).is_err(), "{bad}");
        }
        for never in ["0 0 31 2 *", "0 0 30 2 *", "0 0 31 4,6,9,11 *"] {
            assert!(check(never).unwrap_err().contains("never fires"), "{never}");
        }
    }
}
