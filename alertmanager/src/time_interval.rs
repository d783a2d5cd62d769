//! Time intervals: when a route is muted or active. All fields must hold; within a field any range may.

use chrono::{DateTime, Datelike, Duration, NaiveDate, Timelike};
use chrono_tz::Tz;
use serde::Deserialize;
use serde::de::{Deserializer, Error};

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeInterval {
    #[serde(default)]
    times: Vec<TimeRange>,
    #[serde(default, deserialize_with = "weekdays")]
    weekdays: Vec<Range>,
    #[serde(default, deserialize_with = "days_of_month")]
    days_of_month: Vec<Range>,
    #[serde(default, deserialize_with = "months")]
    months: Vec<Range>,
    #[serde(default, deserialize_with = "years")]
    years: Vec<Range>,
    #[serde(default = "utc", deserialize_with = "zone")]
    location: Tz,
}

/// Minutes of a day, the end excluded.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "RawTimeRange")]
struct TimeRange {
    start_time: u32,
    end_time: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTimeRange {
    #[serde(deserialize_with = "minute")]
    start_time: u32,
    #[serde(deserialize_with = "minute")]
    end_time: u32,
}

impl TryFrom<RawTimeRange> for TimeRange {
    type Error = &'static str;

    fn try_from(RawTimeRange { start_time, end_time }: RawTimeRange) -> Result<TimeRange, Self::Error> {
        if start_time >= end_time {
            return Err("start time cannot be equal or greater than end time");
        }
        Ok(TimeRange { start_time, end_time })
    }
}

/// Both ends included.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Range {
    first: i32,
    last: i32,
}

const WEEKDAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

fn utc() -> Tz {
    Tz::UTC
}

fn zone<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Tz, D::Error> {
    let name = String::deserialize(deserializer)?;
    name.parse().map_err(|_| D::Error::custom(format!("unknown time zone {name:?}")))
}

fn minute<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let text = String::deserialize(deserializer)?;
    let parsed = text.split_once(':').and_then(|(h, m)| Some((h.parse::<u32>().ok()?, m.parse::<u32>().ok()?)));
    match parsed {
        Some((24, 0)) => Ok(24 * 60),
        Some((hours @ 0..=23, minutes @ 0..=59)) => Ok(hours * 60 + minutes),
        _ => Err(D::Error::custom(format!("couldn't parse timestamp {text:?}, invalid format"))),
    }
}

/// Ranges as `first:last`; `what` is what they are of, in errors.
fn ranges<'de, D: Deserializer<'de>>(
    deserializer: D,
    what: &str,
    one: impl Fn(&str) -> Option<i32>,
) -> Result<Vec<Range>, D::Error> {
    let parse = |text: &String| -> Result<Range, String> {
        let lower = text.trim().to_ascii_lowercase();
        let (first_text, last_text) = lower.split_once(':').unwrap_or((&lower, &lower));
        let bad = || format!("{text:?} is not a valid {what}");
        let first = one(first_text.trim()).ok_or_else(bad)?;
        let last = one(last_text.trim()).ok_or_else(bad)?;
        if first < 0 && last > 0 {
            return Err(format!("end {what} must be negative if start {what} is negative"));
        }
        if (first < 0) == (last < 0) && first > last {
            return Err(format!("end {what} {last_text} is before start {what} {first_text}"));
        }
        Ok(Range { first, last })
    };
    Vec::<String>::deserialize(deserializer)?.iter().map(|text| parse(text).map_err(D::Error::custom)).collect()
}

fn weekdays<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Range>, D::Error> {
    ranges(deserializer, "weekday", |text| WEEKDAYS.iter().position(|name| *name == text).map(|day| day as i32))
}

fn months<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Range>, D::Error> {
    ranges(deserializer, "month", |text| {
        let named = MONTHS.iter().position(|name| *name == text).map(|month| month as i32 + 1);
        named.or_else(|| text.parse().ok().filter(|month| (1..=12).contains(month)))
    })
}

fn days_of_month<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Range>, D::Error> {
    ranges(deserializer, "day", |text| text.parse().ok().filter(|day: &i32| *day != 0 && (-31..=31).contains(day)))
}

fn years<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Range>, D::Error> {
    ranges(deserializer, "year", |text| text.parse().ok())
}

impl TimeInterval {
    pub fn contains(&self, now_ms: i64) -> bool {
        let Some(utc) = DateTime::from_timestamp_millis(now_ms) else { return false };
        let now = utc.with_timezone(&self.location);
        let minute = now.hour() * 60 + now.minute();
        let any = |ranges: &[Range], value: i32| {
            ranges.is_empty() || ranges.iter().any(|range| (range.first..=range.last).contains(&value))
        };
        (self.times.is_empty() || self.times.iter().any(|range| (range.start_time..range.end_time).contains(&minute)))
            && any(&self.weekdays, now.weekday().num_days_from_sunday() as i32)
            && any(&self.months, now.month() as i32)
            && any(&self.years, now.year())
            && self.is_day_of_month(now.date_naive())
    }

    /// Negative days count from the end of the month: -1 is its last day.
    fn is_day_of_month(&self, date: NaiveDate) -> bool {
        let next_month = date.with_day(1).and_then(|first| (first + Duration::days(32)).with_day(1));
        let days = next_month.map_or(31, |next| (next - Duration::days(1)).day() as i32);
        let from_start = |day: i32| if day < 0 { days + 1 + day } else { day };
        let holds = |range: &Range| {
            let (first, last) = (from_start(range.first).max(1), from_start(range.last).min(days));
            (first..=last).contains(&(date.day() as i32))
        };
        self.days_of_month.is_empty() || self.days_of_month.iter().any(holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(interval: &str, at: &str, expected: bool) {
        let interval: TimeInterval = serde_saphyr::from_str(interval).expect("a good interval");
        let at_ns = model::parse_rfc3339_ns(at).expect("a time");
        assert_eq!(interval.contains(at_ns / model::NS_PER_MS), expected, "{interval:?} at {at}");
    }

    #[test]
    fn every_field_in_its_zone() {
        let office = "{times: [{start_time: '09:00', end_time: '17:00'}], weekdays: ['monday:friday']}";
        check(office, "2026-11-20T09:00:00Z", true); // a Friday
        check(office, "2026-11-20T17:00:00Z", false);
        check(office, "2026-11-21T10:00:00Z", false);
        let berlin = "{times: [{start_time: '09:00', end_time: '17:00'}], location: Europe/Berlin}";
        check(berlin, "2026-11-20T08:30:00Z", true);
        check("{days_of_month: ['-2:-1']}", "2026-02-27T00:00:00Z", true);
        check("{days_of_month: ['-2:-1']}", "2026-02-26T00:00:00Z", false);
        check("{months: ['november', '1:3'], years: ['2026']}", "2026-02-01T00:00:00Z", true);
        check("{months: ['november'], years: ['2025']}", "2026-11-01T00:00:00Z", false);
        check("{times: [{start_time: '22:00', end_time: '24:00'}]}", "2026-11-01T23:59:00Z", true);
    }

    #[test]
    fn bad_intervals_are_refused() {
        for bad in [
            "{weekdays: [moonday]}",
            "{times: [{start_time: '25:00', end_time: '26:00'}]}",
            "{days_of_month: ['0']}",
            "{location: Nowhere}",
            "{months: ['march:january']}",
        ] {
            assert!(serde_saphyr::from_str::<TimeInterval>(bad).is_err(), "{bad}");
        }
    }
}
