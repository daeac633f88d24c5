use super::super::read::Section;
use super::super::settings::Lifetimes;
use super::{days, hours, minutes, seconds};

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            code: seconds(60),
            access_token: minutes(10),
            id_token: minutes(5),
            refresh_idle: days(30),
            refresh_absolute: days(90),
            refresh_short_window: seconds(10),
            refresh_long_window: None,
            refresh_recovery: hours(24),
            session_idle: minutes(30),
            session_absolute: hours(12),
        }
    }
}

/// Reads `lifetimes`.
pub(super) fn read(section: &Section<'_>) -> Lifetimes {
    let d = Lifetimes::default();
    let token = seconds(1)..=hours(24);
    let session = seconds(1)..=days(90);
    let long = section.get("refresh_long_window");
    let read = Lifetimes {
        // RFC 6749 §4.1.2: "A maximum authorization code lifetime of 10 minutes is RECOMMENDED."
        code: section.duration("code", seconds(1)..=minutes(10), d.code),
        access_token: section.duration("access_token", token.clone(), d.access_token),
        id_token: section.duration("id_token", token, d.id_token),
        refresh_idle: section.duration("refresh_idle", seconds(1)..=days(365), d.refresh_idle),
        refresh_absolute: section.duration(
            "refresh_absolute",
            seconds(1)..=days(730),
            d.refresh_absolute,
        ),
        refresh_short_window: section.duration(
            "refresh_short_window",
            seconds(0)..=seconds(60),
            d.refresh_short_window,
        ),
        refresh_long_window: long.and_then(|item| item.duration(seconds(0)..=hours(24))),
        refresh_recovery: section.duration(
            "refresh_recovery",
            seconds(0)..=days(7),
            d.refresh_recovery,
        ),
        session_idle: section.duration("session_idle", session.clone(), d.session_idle),
        session_absolute: section.duration("session_absolute", session, d.session_absolute),
    };
    for (idle, absolute, holds) in [
        ("refresh_idle", "refresh_absolute", read.refresh_idle <= read.refresh_absolute),
        ("session_idle", "session_absolute", read.session_idle <= read.session_absolute),
    ] {
        if !holds && let Some(item) = section.get(idle).or_else(|| section.get(absolute)) {
            item.fault(
                format!("`{idle}` is longer than `{absolute}`"),
                format!("raise `{absolute}`, or lower `{idle}`"),
            );
        }
    }
    read
}
