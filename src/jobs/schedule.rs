//! Five-field cron in UTC, as `jobs.cleanup` is written.

use croner::parser::{CronParser, Seconds, Year};
use thiserror::Error;

use crate::base::Timestamp;

/// The text is no schedule, or one that never comes round.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{expression}`: {problem}")]
pub struct InvalidSchedule {
    expression: String,
    problem: String,
}

/// Checks minute, hour, day, month and weekday, and says when it fires next after `now`. A schedule
/// that no calendar satisfies (31 February) is refused: the scheduler would take it and be silent.
pub fn validate(expression: &str, now: Timestamp) -> Result<Timestamp, InvalidSchedule> {
    let invalid = |problem: String| InvalidSchedule { expression: expression.to_owned(), problem };
    if expression.split_whitespace().count() != 5 {
        return Err(invalid("not five fields".to_owned()));
    }
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    let cron = parser.parse(expression).map_err(|error| invalid(error.to_string()))?;
    let next = cron.find_next_occurrence(&now.to_chrono(), false);
    next.map(Timestamp::from_chrono).map_err(|error| invalid(format!("never fires ({error})")))
}

/// The scheduler wants seconds first; ours is the zeroth.
pub(super) fn with_seconds(expression: &str) -> String {
    format!("0 {expression}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000); // 2027-01-15T08:00:00Z

    #[test]
    fn the_next_time_is_after_now() {
        let next = |expression| validate(expression, NOW).unwrap().to_string();
        assert_eq!(next("*/10 * * * *"), "2027-01-15T08:10:00.000Z");
        assert_eq!(next("0 8 * * *"), "2027-01-16T08:00:00.000Z");
        assert_eq!(next("30 3 29 2 *"), "2028-02-29T03:30:00.000Z");
    }

    #[test]
    fn what_is_no_schedule_or_never_fires_is_refused() {
        for bad in ["", "* * * *", "0 */10 * * * *", "@hourly", "60 * * * *", "0 0 31 2 *"] {
            assert!(validate(bad, NOW).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_scheduler_takes_what_we_make_of_it() {
        assert!(tokio_cron_scheduler::Job::new(with_seconds("*/10 * * * *"), |_, _| {}).is_ok());
        assert!(tokio_cron_scheduler::Job::new("*/10 * * * *", |_, _| {}).is_err());
    }
}
