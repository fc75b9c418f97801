//! Clocks: clock_gettime(2), clock_settime(2), and the hardware clock (rtc(4)).

use crate::error::{Context, Error, Result};
use rustix::ioctl::{Getter, Opcode, Setter, ioctl, opcode};
use rustix::time::{ClockId, Timespec};
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

const RTC_RD_TIME: Opcode = opcode::read::<RtcTime>(b'p', 0x09);
const RTC_SET_TIME: Opcode = opcode::write::<RtcTime>(b'p', 0x0a);

/// Seconds of a day.
const DAY: i64 = 86_400;

/// `struct rtc_time` (include/uapi/linux/rtc.h): UTC by our convention, which is also Debian's.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct RtcTime {
    sec: i32,
    min: i32,
    hour: i32,
    /// Day of the month, from 1.
    mday: i32,
    /// Month, from 0.
    mon: i32,
    /// Years since 1900.
    year: i32,
    /// The last three are not used by drivers.
    wday: i32,
    yday: i32,
    isdst: i32,
}

/// Time since the kernel started, suspend included (CLOCK_BOOTTIME).
#[must_use]
pub fn since_boot() -> Duration {
    duration(rustix::time::clock_gettime(ClockId::Boottime)).unwrap_or_default()
}

/// Wall clock, since 1970 (CLOCK_REALTIME); zero when it is set before that.
#[must_use]
pub fn now() -> Duration {
    duration(rustix::time::clock_gettime(ClockId::Realtime)).unwrap_or_default()
}

fn duration(time: Timespec) -> Option<Duration> {
    Some(Duration::new(time.tv_sec.try_into().ok()?, time.tv_nsec.try_into().ok()?))
}

/// Sets the wall clock, to a time since 1970.
///
/// # Errors
/// What clock_settime(2) says; `EINVAL` also beyond the range of 64-bit seconds.
pub fn set_now(since_1970: Duration) -> Result<()> {
    let invalid = |_| Error::new("clock_settime", "CLOCK_REALTIME", rustix::io::Errno::INVAL);
    let time = Timespec {
        tv_sec: since_1970.as_secs().try_into().map_err(invalid)?,
        tv_nsec: since_1970.subsec_nanos().into(),
    };
    rustix::time::clock_settime(ClockId::Realtime, time).of("clock_settime", "CLOCK_REALTIME")
}

/// Reads a hardware clock, e.g. /dev/rtc0: seconds since 1970.
///
/// # Errors
/// What open(2) and the driver say; `InvalidData` for a date that is none or before 1970.
pub fn read_rtc(device: &Path) -> Result<u64> {
    let file = File::open(device).on("open", device)?;
    // SAFETY: RTC_RD_TIME fills a struct rtc_time, whose layout RtcTime has.
    let time = unsafe { ioctl(&file, Getter::<RTC_RD_TIME, RtcTime>::new()) }.on("RTC_RD_TIME", device)?;
    to_unix(&time)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the hardware clock holds no date"))
        .on("RTC_RD_TIME", device)
}

/// Sets a hardware clock, in seconds since 1970.
///
/// # Errors
/// What open(2) and the driver say.
pub fn write_rtc(device: &Path, unix_seconds: u64) -> Result<()> {
    let time = from_unix(unix_seconds).ok_or(rustix::io::Errno::INVAL).on("RTC_SET_TIME", device)?;
    let file = File::open(device).on("open", device)?;
    // SAFETY: RTC_SET_TIME reads a struct rtc_time, whose layout RtcTime has.
    unsafe { ioctl(&file, Setter::<RTC_SET_TIME, RtcTime>::new(time)) }.on("RTC_SET_TIME", device)
}

/// Days since 1970 of a date of the Gregorian calendar (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Year, month (from 1) and day (from 1) of a day since 1970; the same source.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

fn to_unix(time: &RtcTime) -> Option<u64> {
    let in_range = (0..12).contains(&time.mon)
        && (1..=31).contains(&time.mday)
        && (0..24).contains(&time.hour)
        && (0..60).contains(&time.min)
        && (0..=60).contains(&time.sec);
    if !in_range {
        return None;
    }
    let days = days_from_civil(i64::from(time.year) + 1900, i64::from(time.mon) + 1, i64::from(time.mday));
    let seconds = i64::from(time.hour) * 3600 + i64::from(time.min) * 60 + i64::from(time.sec);
    (days * DAY + seconds).try_into().ok()
}

fn from_unix(unix_seconds: u64) -> Option<RtcTime> {
    let seconds = i64::try_from(unix_seconds).ok()?;
    let (year, month, day) = civil_from_days(seconds.div_euclid(DAY));
    let of_day = i32::try_from(seconds.rem_euclid(DAY)).ok()?;
    Some(RtcTime {
        sec: of_day % 60,
        min: of_day / 60 % 60,
        hour: of_day / 3600,
        mday: day.try_into().ok()?,
        mon: (month - 1).try_into().ok()?,
        year: (year - 1900).try_into().ok()?,
        ..RtcTime::default()
    })
}

#[cfg(test)]
mod tests {
    use super::{RtcTime, from_unix, since_boot, to_unix};
    use proptest::prelude::{prop_assert_eq, proptest};

    #[test]
    fn known_dates() {
        let leap = RtcTime { sec: 59, min: 59, hour: 23, mday: 29, mon: 1, year: 124, ..RtcTime::default() };
        assert_eq!(to_unix(&leap), Some(1_709_251_199));
        assert_eq!(from_unix(1_709_251_199), Some(leap));
        let before = RtcTime { mday: 31, mon: 11, year: 69, ..RtcTime::default() };
        assert_eq!(to_unix(&before), None);
        assert_eq!(to_unix(&RtcTime::default()), None, "day 0 of a month is no date");
    }

    #[test]
    fn boot_time_goes_forward() {
        let first = since_boot();
        assert!(first > std::time::Duration::ZERO && since_boot() >= first);
    }

    proptest! {
        #[test]
        fn dates_round_trip(seconds in 0_u64..253_402_300_800) {
            let time = from_unix(seconds);
            prop_assert_eq!(time.as_ref().and_then(to_unix), Some(seconds));
        }
    }
}
