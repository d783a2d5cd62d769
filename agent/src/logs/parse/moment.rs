//! Times as a configuration describes them.

use chrono::{DateTime, Datelike, FixedOffset, Local, NaiveDateTime, TimeZone, Utc};
use chrono_tz::Tz;
use service::config::Timestamp;

/// How a field's text becomes an instant.
#[derive(Debug, Clone)]
pub struct Moment {
    pub field: String,
    format: Format,
    zone: Zone,
}

#[derive(Debug, Clone)]
enum Format {
    Rfc3339,
    /// Nanoseconds in its unit.
    Unix(f64),
    Directives(String),
}

#[derive(Debug, Clone, Copy)]
enum Zone {
    Local,
    Fixed(FixedOffset),
    Named(Tz),
}

impl Moment {
    pub fn new(config: &Timestamp) -> Result<Moment, String> {
        let format = match config.format.as_deref() {
            None | Some("rfc3339") => Format::Rfc3339,
            Some("unix") => Format::Unix(1e9),
            Some("unix_ms") => Format::Unix(1e6),
            Some("unix_us") => Format::Unix(1e3),
            Some("unix_ns") => Format::Unix(1.0),
            Some(directives) => {
                let mut items = chrono::format::StrftimeItems::new(directives);
                if items.any(|item| item == chrono::format::Item::Error) {
                    return Err(format!("timestamp.format: {directives:?} has an unknown directive"));
                }
                Format::Directives(directives.to_owned())
            }
        };
        let zone = match config.zone.as_deref() {
            None | Some("local" | "Local") => Zone::Local,
            Some("UTC" | "utc" | "Z") => Zone::Fixed(Utc.fix()),
            Some(name) => match (name.parse::<FixedOffset>(), name.parse::<Tz>()) {
                (Ok(offset), _) => Zone::Fixed(offset),
                (_, Ok(zone)) => Zone::Named(zone),
                _ => return Err(format!("timestamp.zone: {name:?} is no time zone")),
            },
        };
        Ok(Moment { field: config.field.clone(), format, zone })
    }

    pub fn parse(&self, text: &str, now_ns: i64) -> Option<i64> {
        let text = text.trim();
        match &self.format {
            Format::Rfc3339 => {
                let with_zone = model::parse_rfc3339_ns(text);
                with_zone.or_else(|| {
                    let naive = NaiveDateTime::parse_from_str(&text.replacen('T', " ", 1), "%Y-%m-%d %H:%M:%S%.f");
                    self.zone.instant(naive.ok()?)
                })
            }
            Format::Unix(unit_ns) => match text.parse::<i64>() {
                Ok(whole) => whole.checked_mul(*unit_ns as i64),
                Err(_) => text.parse::<f64>().ok().map(|number| (number * unit_ns) as i64),
            },
            Format::Directives(directives) => {
                if let Ok(instant) = DateTime::parse_from_str(text, directives) {
                    return instant.timestamp_nanos_opt();
                }
                match NaiveDateTime::parse_from_str(text, directives) {
                    Ok(naive) => self.zone.instant(naive),
                    Err(_) => self.in_recent_year(text, directives, now_ns),
                }
            }
        }
    }

    /// A time that names no year is the latest that is not more than a day ahead.
    fn in_recent_year(&self, text: &str, directives: &str, now_ns: i64) -> Option<i64> {
        let year = DateTime::from_timestamp_nanos(now_ns).year();
        [year + 1, year, year - 1].into_iter().find_map(|year| {
            let naive = NaiveDateTime::parse_from_str(&format!("{year} {text}"), &format!("%Y {directives}")).ok()?;
            let t_ns = self.zone.instant(naive)?;
            (t_ns <= now_ns.saturating_add(super::MAX_AHEAD_NS)).then_some(t_ns)
        })
    }
}

impl Zone {
    fn instant(self, naive: NaiveDateTime) -> Option<i64> {
        match self {
            Zone::Local => Local.from_local_datetime(&naive).earliest()?.timestamp_nanos_opt(),
            Zone::Fixed(offset) => offset.from_local_datetime(&naive).earliest()?.timestamp_nanos_opt(),
            Zone::Named(zone) => zone.from_local_datetime(&naive).earliest()?.timestamp_nanos_opt(),
        }
    }
}

use chrono::Offset;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_NS: i64 = 1_795_156_000_000_000_000; // 2026-11-20T06:26:40Z

    fn check(format: Option<&str>, zone: Option<&str>, text: &str, expected: Option<&str>) {
        let config =
            Timestamp { field: "t".to_owned(), format: format.map(str::to_owned), zone: zone.map(str::to_owned) };
        let got = Moment::new(&config).expect("good").parse(text, NOW_NS);
        assert_eq!(got, expected.map(|t| model::parse_rfc3339_ns(t).expect("a good time")), "{text}");
    }

    #[test]
    fn formats_and_zones() {
        let t = Some("2026-11-20T06:25:00.5Z");
        check(None, None, "2026-11-20T07:25:00.5+01:00", t);
        check(None, Some("+01:00"), "2026-11-20 07:25:00.5", t);
        check(Some("unix"), None, "1795155900.5", t);
        check(Some("unix_ms"), None, "1795155900500", t);
        check(Some("%d.%m.%Y %H:%M:%S%.f"), Some("Europe/Paris"), "20.11.2026 07:25:00.5", t);
        check(Some("%d/%b/%Y:%H:%M:%S%.f %z"), Some("UTC"), "20/Nov/2026:07:25:00.5 +0100", t);
        check(Some("%b %d %H:%M:%S"), Some("UTC"), "Dec 31 23:59:59", Some("2025-12-31T23:59:59Z"));
        check(Some("unix"), None, "soon", None);
        let bad = |format: &str, zone: &str| {
            Moment::new(&Timestamp { field: "t".into(), format: Some(format.into()), zone: Some(zone.into()) }).is_err()
        };
        assert!(bad("%Q!", "UTC") && bad("unix", "Mars/Olympus"));
    }
}
