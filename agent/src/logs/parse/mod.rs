//! What a line says besides its text: time, stream, level, and whether it is only a part.
//!
//! The text stays the message as it was written; container formats (CRI, Docker) are envelopes and are taken off.

mod access;
pub mod content;
mod cri;
mod docker;
mod instant;
mod json;
mod klog;
pub mod level;
mod logfmt;
mod moment;
pub mod syslog;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use service::config::LogLineFormat;

pub use level::Level;

/// The output a container wrote a line to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    Unnamed,
    Stdout,
    Stderr,
}

impl Stream {
    pub const ALL: [Stream; 3] = [Stream::Unnamed, Stream::Stdout, Stream::Stderr];

    pub fn name(self) -> &'static str {
        match self {
            Stream::Unnamed => "",
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }

    pub fn index(self) -> usize {
        self as usize
    }

    fn from_name(name: &[u8]) -> Option<Stream> {
        match name {
            b"stdout" => Some(Stream::Stdout),
            b"stderr" => Some(Stream::Stderr),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Cri,
    Docker,
    Klog,
    Syslog,
    Json,
    Logfmt,
    Access,
    Error,
    Plain,
}

/// A line, understood.
#[derive(Debug, PartialEq)]
pub struct Parsed<'a> {
    pub text: Cow<'a, [u8]>,
    pub t_ns: Option<i64>,
    pub stream: Stream,
    /// The message goes on in the next line of this stream.
    pub is_partial: bool,
    pub level: Option<Level>,
}

impl<'a> Parsed<'a> {
    fn plain(line: &'a [u8]) -> Parsed<'a> {
        Parsed { text: Cow::Borrowed(line), t_ns: None, stream: Stream::Unnamed, is_partial: false, level: None }
    }
}

impl Format {
    /// In the order tried.
    const DETECTED: [Format; 8] = [
        Format::Cri,
        Format::Docker,
        Format::Klog,
        Format::Syslog,
        Format::Access,
        Format::Error,
        Format::Json,
        Format::Logfmt,
    ];

    /// The format that a configuration names; none for `auto`.
    pub fn configured(format: LogLineFormat) -> Option<Format> {
        match format {
            LogLineFormat::Auto => None,
            LogLineFormat::Cri => Some(Format::Cri),
            LogLineFormat::Docker => Some(Format::Docker),
            LogLineFormat::Syslog => Some(Format::Syslog),
            LogLineFormat::Klog => Some(Format::Klog),
            LogLineFormat::Json => Some(Format::Json),
            LogLineFormat::Logfmt => Some(Format::Logfmt),
            LogLineFormat::Access => Some(Format::Access),
            LogLineFormat::Error => Some(Format::Error),
            LogLineFormat::Regex | LogLineFormat::Plain => Some(Format::Plain),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Format::Cri => "cri",
            Format::Docker => "docker",
            Format::Klog => "klog",
            Format::Syslog => "syslog",
            Format::Json => "json",
            Format::Logfmt => "logfmt",
            Format::Access => "access",
            Format::Error => "error",
            Format::Plain => "plain",
        }
    }

    /// Decides by the first lines: the first format that understands at least four in five of them.
    pub fn detect(lines: &[&[u8]], now_ns: i64) -> Format {
        let understands = |format: &Format| {
            let known = lines.iter().filter(|line| format.try_parse(line, now_ns).is_some()).count();
            known > 0 && known * 5 >= lines.len() * 4
        };
        Format::DETECTED.into_iter().find(understands).unwrap_or(Format::Plain)
    }

    /// A container's envelope around whatever a program wrote.
    pub fn is_envelope(self) -> bool {
        matches!(self, Format::Cri | Format::Docker)
    }

    /// The format of a file whose lines, or messages in a container's envelope, are of the configured one.
    pub fn enveloped(configured: Format, lines: &[&[u8]], now_ns: i64) -> Format {
        let detected = Format::detect(lines, now_ns);
        if detected.is_envelope() { detected } else { configured }
    }

    /// A line that is not of this format is taken as plain text.
    pub fn parse(self, line: &[u8], now_ns: i64) -> Parsed<'_> {
        let mut parsed = self.try_parse(line, now_ns).unwrap_or_else(|| Parsed::plain(line));
        parsed.t_ns = parsed.t_ns.filter(|t_ns| is_possible(*t_ns, now_ns));
        parsed
    }

    fn try_parse(self, line: &[u8], now_ns: i64) -> Option<Parsed<'_>> {
        match self {
            Format::Cri => cri::parse(line),
            Format::Docker => docker::parse(line),
            Format::Klog => klog::parse(line, now_ns),
            Format::Syslog => syslog::parse(line, now_ns),
            Format::Json => json::parse(line),
            Format::Logfmt => logfmt::parse(line),
            Format::Access => access::parse(line),
            Format::Error => access::parse_error(line),
            Format::Plain => Some(Parsed::plain(line)),
        }
    }
}

const MAX_AHEAD_NS: i64 = 86_400_000_000_000;

/// A clock a day ahead would be refused by every store.
pub fn is_possible(t_ns: i64, now_ns: i64) -> bool {
    t_ns > 0 && t_ns < now_ns.saturating_add(MAX_AHEAD_NS)
}

/// A local date of unknown year: the latest year that does not put it more than a day ahead of now.
fn in_recent_year(month: u32, day: u32, time: chrono::NaiveTime, now_ns: i64) -> Option<i64> {
    use chrono::{Datelike, Local, NaiveDate, TimeZone};
    let now = chrono::DateTime::from_timestamp_nanos(now_ns).with_timezone(&Local);
    (0..=4).find_map(|back| {
        let date = NaiveDate::from_ymd_opt(now.year() + 1 - back, month, day)?;
        let t_ns = Local.from_local_datetime(&date.and_time(time)).earliest()?.timestamp_nanos_opt()?;
        (t_ns <= now_ns.saturating_add(MAX_AHEAD_NS)).then_some(t_ns)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW_NS: i64 = 1_795_156_000_000_000_000; // 2026-11-20T06:26:40Z

    fn check(line: &str, format: Format, expected: (&str, Option<&str>, Stream, bool)) {
        assert_eq!(Format::detect(&[line.as_bytes()], NOW_NS), format, "{line}");
        let parsed = format.parse(line.as_bytes(), NOW_NS);
        let t_ns = expected.1.map(|t| model::parse_rfc3339_ns(t).expect("a good time"));
        let got = (String::from_utf8_lossy(&parsed.text).into_owned(), parsed.t_ns, parsed.stream, parsed.is_partial);
        assert_eq!(got, (expected.0.to_owned(), t_ns, expected.2, expected.3), "{line}");
    }

    #[test]
    fn every_format_is_told_by_its_first_line() {
        let t = Some("2026-11-20T06:25:00.123456789Z");
        check(
            "2026-11-20T06:25:00.123456789Z stdout F hello you",
            Format::Cri,
            ("hello you", t, Stream::Stdout, false),
        );
        check("2026-11-20T07:25:00.123456789+01:00 stderr P hel", Format::Cri, ("hel", t, Stream::Stderr, true));
        check("2026-11-20T06:25:00.123456789Z stdout F ", Format::Cri, ("", t, Stream::Stdout, false));
        check(
            r#"{"log":"a \"b\"\n","stream":"stderr","time":"2026-11-20T06:25:00.123456789Z"}"#,
            Format::Docker,
            ("a \"b\"", t, Stream::Stderr, false),
        );
        check(
            r#"{"log":"part","stream":"stdout","time":"2026-11-20T06:25:00.123456789Z"}"#,
            Format::Docker,
            ("part", t, Stream::Stdout, true),
        );
        let iso = "2026-11-20T06:25:00.123456789+00:00 host prog[1]: hi";
        check(iso, Format::Syslog, (iso, t, Stream::Unnamed, false));
        for json in [
            r#"{"level":"info","ts":1795155900.5,"msg":"x"}"#,
            r#"{"time":"2026-11-20T06:25:00.5Z"}"#,
            r#"{"@timestamp":1795155900500}"#,
        ] {
            check(json, Format::Json, (json, Some("2026-11-20T06:25:00.5Z"), Stream::Unnamed, false));
        }
        check("line 1 of something", Format::Plain, ("line 1 of something", None, Stream::Unnamed, false));
    }

    /// Local dates: compared in the zone of the machine that runs the test.
    #[test]
    fn dates_without_a_year_are_recent() {
        use chrono::{Local, TimeZone};
        let local =
            |y, mo, d| Local.with_ymd_and_hms(y, mo, d, 6, 25, 0).earliest().and_then(|t| t.timestamp_nanos_opt());
        for (line, format, expected) in [
            ("Nov 20 06:25:00 host prog[1]: hi", Format::Syslog, local(2026, 11, 20)),
            ("<13>Dec  1 06:25:00 host prog: hi", Format::Syslog, local(2025, 12, 1)),
            ("E1119 06:25:00.000000  1 file.go:1] bad", Format::Klog, local(2026, 11, 19)),
        ] {
            assert_eq!(Format::detect(&[line.as_bytes()], NOW_NS), format, "{line}");
            let parsed = format.parse(line.as_bytes(), NOW_NS);
            assert_eq!((parsed.t_ns, parsed.text.as_ref()), (expected, line.as_bytes()), "{line}");
        }
        assert_eq!(Format::Klog.parse(b"E1119 06:25:00.000000  1 f.go:1] x", NOW_NS).level, Some(Level::Error));
    }

    #[test]
    fn a_time_far_ahead_is_no_time() {
        assert_eq!(Format::Cri.parse(b"2028-11-20T06:25:00Z stdout F x", NOW_NS).t_ns, None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(line in proptest::collection::vec(any::<u8>(), 0..120), ascii in "[ -~]{0,80}") {
            for line in [line.as_slice(), ascii.as_bytes()] {
                for format in Format::DETECTED {
                    let _ = format.parse(line, NOW_NS);
                }
                let _ = level::detect(line);
            }
        }
    }
}
