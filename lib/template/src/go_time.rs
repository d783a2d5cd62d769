//! Instants as templates see Go's `time.Time`, and Go's reference-time layouts.

use chrono::{DateTime, Datelike, Duration, FixedOffset, SecondsFormat, TimeZone, Timelike, Utc};
use chrono_tz::Tz;

use crate::value::{Object, Value, argument};

/// An instant with the zone it is shown in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TimeValue {
    at: DateTime<FixedOffset>,
}

impl TimeValue {
    pub fn from_ms(ms: i64) -> TimeValue {
        let at = DateTime::<Utc>::from_timestamp_millis(ms).unwrap_or_default();
        TimeValue { at: at.fixed_offset() }
    }

    pub fn from_ns(ns: i64) -> TimeValue {
        TimeValue { at: DateTime::<Utc>::from_timestamp_nanos(ns).fixed_offset() }
    }

    /// The same instant shown in a named zone.
    pub fn in_zone(self, name: &str) -> Result<TimeValue, String> {
        let zone: Tz = name.parse().map_err(|_| format!("unknown time zone {name}"))?;
        Ok(TimeValue { at: self.at.with_timezone(&zone).fixed_offset() })
    }

    /// Times out of reach are the beginning of the era.
    pub fn to_ns(self) -> i64 {
        self.at.timestamp_nanos_opt().unwrap_or(0)
    }

    pub fn to_ms(self) -> i64 {
        self.at.timestamp_millis()
    }

    /// Formats by a layout written as Go's reference time, `Mon Jan 2 15:04:05 MST 2006`.
    pub fn format(&self, layout: &str) -> String {
        let mut text = String::new();
        let mut rest = layout;
        'outer: while !rest.is_empty() {
            for (pattern, print) in LAYOUT {
                if let Some(after) = rest.strip_prefix(pattern) {
                    text += &print(&self.at);
                    rest = after;
                    continue 'outer;
                }
            }
            if let Some((printed, after)) = self.fraction(rest, text.as_bytes().last().copied()) {
                text += &printed;
                rest = after;
                continue;
            }
            let first = rest.chars().next().unwrap_or(' ');
            text.push(first);
            rest = &rest[first.len_utf8()..];
        }
        text
    }

    /// `.000` keeps zeros, `.999` drops them; only behind a second's digit.
    fn fraction<'a>(&self, rest: &'a str, before: Option<u8>) -> Option<(String, &'a str)> {
        let digit = rest.strip_prefix(['.', ',']).and_then(|r| r.chars().next()).filter(|c| matches!(c, '0' | '9'))?;
        before.filter(u8::is_ascii_digit)?;
        let count = rest[1..].chars().take_while(|c| *c == digit).count().min(9);
        let nanos = format!("{:09}", self.at.nanosecond());
        let kept = &nanos[..count];
        let kept = if digit == '9' { kept.trim_end_matches('0') } else { kept };
        let printed = if kept.is_empty() { String::new() } else { format!("{}{kept}", &rest[..1]) };
        Some((printed, &rest[1 + count..]))
    }
}

type Print = fn(&DateTime<FixedOffset>) -> String;

/// Longer patterns before their prefixes.
const LAYOUT: [(&str, Print); 27] = [
    ("January", |t| t.format("%B").to_string()),
    ("Jan", |t| t.format("%b").to_string()),
    ("Monday", |t| t.format("%A").to_string()),
    ("Mon", |t| t.format("%a").to_string()),
    ("MST", |t| if t.offset().local_minus_utc() == 0 { "UTC".to_owned() } else { t.format("%z").to_string() }),
    ("2006", |t| format!("{:04}", t.year())),
    ("-07:00", |t| t.format("%:z").to_string()),
    ("-0700", |t| t.format("%z").to_string()),
    ("Z07:00", |t| if t.offset().local_minus_utc() == 0 { "Z".to_owned() } else { t.format("%:z").to_string() }),
    ("Z0700", |t| if t.offset().local_minus_utc() == 0 { "Z".to_owned() } else { t.format("%z").to_string() }),
    ("-07", |t| t.format("%z").to_string()[..3].to_owned()),
    ("002", |t| format!("{:03}", t.ordinal())),
    ("01", |t| format!("{:02}", t.month())),
    ("02", |t| format!("{:02}", t.day())),
    ("03", |t| format!("{:02}", t.hour12().1)),
    ("04", |t| format!("{:02}", t.minute())),
    ("05", |t| format!("{:02}", t.second())),
    ("06", |t| format!("{:02}", t.year() % 100)),
    ("15", |t| format!("{:02}", t.hour())),
    ("_2", |t| format!("{:>2}", t.day())),
    ("PM", |t| if t.hour() < 12 { "AM" } else { "PM" }.to_owned()),
    ("pm", |t| if t.hour() < 12 { "am" } else { "pm" }.to_owned()),
    ("1", |t| t.month().to_string()),
    ("2", |t| t.day().to_string()),
    ("3", |t| t.hour12().1.to_string()),
    ("4", |t| t.minute().to_string()),
    ("5", |t| t.second().to_string()),
];

impl Object for TimeValue {
    fn member(&self, name: &str, arguments: &[Value]) -> Option<Result<Value, String>> {
        let number = |value: i64| Some(Ok(Value::Int(value)));
        let other = || -> Result<TimeValue, String> {
            let ms = match argument(arguments, 0)? {
                Value::Object(object) => object.member("UnixMilli", &[]).ok_or("expected a time")??.number()?,
                other => other.number()?,
            };
            Ok(TimeValue::from_ms(ms as i64))
        };
        match name {
            "Format" => Some(argument(arguments, 0).and_then(|layout| Ok(self.format(layout.text()?).into()))),
            "Unix" => number(self.at.timestamp()),
            "UnixMilli" => number(self.at.timestamp_millis()),
            "UnixNano" => number(self.at.timestamp_nanos_opt().unwrap_or(0)),
            "Year" => number(self.at.year().into()),
            "Month" => Some(Ok(self.at.format("%B").to_string().into())),
            "Day" => number(self.at.day().into()),
            "Hour" => number(self.at.hour().into()),
            "Minute" => number(self.at.minute().into()),
            "Second" => number(self.at.second().into()),
            "YearDay" => number(self.at.ordinal().into()),
            "Weekday" => Some(Ok(self.at.format("%A").to_string().into())),
            "UTC" => Some(Ok(Value::object(TimeValue { at: self.at.to_utc().fixed_offset() }))),
            "Local" => Some(Ok(Value::object(TimeValue { at: self.at.with_timezone(&chrono::Local).fixed_offset() }))),
            "IsZero" => Some(Ok(Value::Bool(self.at.year() <= 1))),
            "Add" => Some(
                argument(arguments, 0)
                    .and_then(Value::number)
                    .map(|ns| Value::object(TimeValue { at: self.at + Duration::nanoseconds(ns as i64) })),
            ),
            "Sub" => Some(other().map(|then| Value::Int((self.at - then.at).num_nanoseconds().unwrap_or(i64::MAX)))),
            "Before" => Some(other().map(|then| Value::Bool(self.at < then.at))),
            "After" => Some(other().map(|then| Value::Bool(self.at > then.at))),
            "Equal" => Some(other().map(|then| Value::Bool(self.at == then.at))),
            _ => None,
        }
    }

    /// Go's `time.Time.String()`.
    fn print(&self) -> String {
        self.format("2006-01-02 15:04:05.999999999 -0700 MST")
    }
}

/// What layouts are made of, in Go's words and in chrono's; longer ones before their prefixes.
const PARSED: [(&str, &str); 24] = [
    ("January", "%B"),
    ("Jan", "%b"),
    ("Monday", "%A"),
    ("Mon", "%a"),
    ("MST", "%Z"),
    ("2006", "%Y"),
    ("Z07:00", "%#z"),
    ("Z0700", "%#z"),
    ("-07:00", "%:z"),
    ("-0700", "%z"),
    (".000000000", "%.f"),
    (".999999999", "%.f"),
    (".000000", "%.f"),
    (".999999", "%.f"),
    (".000", "%.f"),
    (".999", "%.f"),
    ("01", "%m"),
    ("02", "%d"),
    ("03", "%I"),
    ("15", "%H"),
    ("04", "%M"),
    ("05", "%S"),
    ("06", "%y"),
    ("PM", "%p"),
];

/// Parses a time in a layout; one without a zone is in that of `zone`.
pub fn parse_in(layout: &str, text: &str, zone: Tz) -> Result<TimeValue, String> {
    let bad = || format!("parsing time {text:?} as {layout:?}: cannot parse");
    let (mut pattern, mut rest) = (String::new(), layout);
    while let Some(c) = rest.chars().next() {
        if let Some((go, chrono)) = PARSED.iter().find(|(go, _)| rest.starts_with(go)) {
            pattern.push_str(chrono);
            rest = &rest[go.len()..];
        } else {
            pattern.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    if pattern.contains('z') {
        return DateTime::parse_from_str(text, &pattern).map(|at| TimeValue { at }).map_err(|_| bad());
    }
    let naive = chrono::NaiveDateTime::parse_from_str(text, &pattern)
        .ok()
        .or_else(|| chrono::NaiveDate::parse_from_str(text, &pattern).ok()?.and_hms_opt(0, 0, 0));
    let at = naive.and_then(|at| zone.from_local_datetime(&at).earliest()).ok_or_else(bad)?;
    Ok(TimeValue { at: at.fixed_offset() })
}

pub fn parse(layout: &str, text: &str) -> Result<TimeValue, String> {
    parse_in(layout, text, Tz::UTC)
}

impl TimeValue {
    /// RFC 3339 with the digits it has.
    pub fn rfc3339(&self) -> String {
        self.at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(layout: &str, expected: &str) {
        let time = TimeValue::from_ms(1_763_620_000_250); // 2025-11-20T06:26:40.250Z
        assert_eq!(time.format(layout), expected, "{layout}");
    }

    #[test]
    fn gos_layouts() {
        check("2006-01-02T15:04:05.000Z07:00", "2025-11-20T06:26:40.250Z");
        check("2006-01-02 15:04:05.999", "2025-11-20 06:26:40.25");
        check("Mon Jan _2 3:04PM MST 2006", "Thu Nov 20 6:26AM UTC 2025");
        check("Monday, 2 January 06", "Thursday, 20 November 25");
        check("02/01 at noon", "20/11 at noon");
        let berlin = TimeValue::from_ms(0).in_zone("Europe/Berlin").expect("a zone");
        assert_eq!(berlin.format("15:04 -0700"), "01:00 +0100");
        let check = |layout: &str, text: &str, expected: i64| {
            assert_eq!(parse(layout, text).map(TimeValue::to_ms), Ok(expected), "{text} as {layout}");
        };
        check("2006-01-02", "2025-11-20", 1_763_596_800_000);
        check("2006-01-02T15:04:05Z07:00", "2025-11-20T06:26:40Z", 1_763_620_000_000);
        check("2006-01-02T15:04:05.999999999Z", "2025-11-20T06:26:40.25Z", 1_763_620_000_250);
        check("02/Jan/2006:15:04:05 -0700", "20/Nov/2025:07:26:40 +0100", 1_763_620_000_000);
        assert!(parse("2006-01-02", "soon").is_err());
    }
}
