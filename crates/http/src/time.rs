//! Times in messages.

use std::time::{Duration, SystemTime};

/// A time in messages: RFC 3339, UTC, whole seconds.
#[must_use]
pub fn rfc3339(time: SystemTime) -> String {
    // What lies before 1970 or after 9999 cannot be written; it only appears when something is very wrong.
    if humantime_range().contains(&time) {
        humantime::format_rfc3339_seconds(time).to_string()
    } else {
        format!("{time:?}")
    }
}

/// 1970 to the end of 9999, what RFC 3339 and humantime can write.
fn humantime_range() -> std::ops::Range<SystemTime> {
    SystemTime::UNIX_EPOCH..SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_800)
}
