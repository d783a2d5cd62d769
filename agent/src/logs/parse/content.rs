//! What a configuration wants to know of a line's text: fields that become structured metadata, and its time.

use regex::Regex;
use serde_json::Value;
use service::config::{LogLineFormat, LogSource};

use super::moment::Moment;
use super::{Format, Level, access, logfmt, syslog};

/// Fields of one line at most, and bytes of one value.
const MAX_FIELDS: usize = 64;
const MAX_VALUE_BYTES: usize = 4096;
const MAX_DEPTH: usize = 8;

/// Fields found in a line; their memory is used again.
#[derive(Debug, Default)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    fn add(&mut self, name: &str, value: &str) {
        if self.0.len() < MAX_FIELDS && !value.is_empty() {
            let name = name.replace(|c: char| !c.is_ascii_alphanumeric() && c != '_', "_");
            let name = if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name };
            self.0.push((name, value[..value.floor_char_boundary(MAX_VALUE_BYTES)].to_owned()));
        }
    }
}

/// What was found beside fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Found {
    pub t_ns: Option<i64>,
    pub level: Option<Level>,
}

/// What is looked for.
#[derive(Debug, Clone)]
pub struct Content {
    /// The format of what an envelope holds.
    inner: Option<Format>,
    pattern: Option<Regex>,
    wanted: Vec<String>,
    moment: Option<Moment>,
}

impl Content {
    /// `None` where a source asks for nothing.
    pub fn of(source: &LogSource) -> Result<Option<Content>, String> {
        let moment = source.timestamp.as_ref().map(Moment::new).transpose()?;
        let inner = Format::configured(source.format).filter(|format| !format.is_envelope());
        let pattern = source.pattern.as_ref().map(|pattern| pattern.0.clone());
        let mut wanted = source.fields.clone();
        if let Some(pattern) = pattern.as_ref().filter(|_| wanted.is_empty()) {
            wanted = pattern.capture_names().flatten().map(str::to_owned).collect();
            wanted.retain(|name| moment.as_ref().is_none_or(|moment| moment.field != *name));
        }
        let is_needed = inner.is_some_and(|inner| inner != Format::Plain)
            || source.format == LogLineFormat::Regex
            || !wanted.is_empty()
            || moment.is_some();
        Ok(is_needed.then_some(Content { inner, pattern, wanted, moment }))
    }

    /// Looks into a text whose line is of `format`.
    pub fn read(&self, text: &str, format: Format, now_ns: i64, fields: &mut Fields) -> Found {
        let mut found = Found::default();
        let inner = match (self.inner, format.is_envelope()) {
            (Some(inner), true) => {
                // The runtime's time stands, unless another is asked for.
                found.level = inner.parse(text.as_bytes(), now_ns).level;
                inner
            }
            (None, true) if text.starts_with('{') => Format::Json,
            (None, true) => Format::Logfmt,
            (_, false) => format,
        };
        if self.wanted.is_empty() && self.moment.is_none() && self.pattern.is_none() {
            return found;
        }
        let mut see = |name: &str, value: &str| {
            if let Some(moment) = self.moment.as_ref().filter(|moment| moment.field == name) {
                found.t_ns =
                    moment.parse(value, now_ns).filter(|t_ns| super::is_possible(*t_ns, now_ns)).or(found.t_ns);
            }
            if name == "level" {
                found.level = Level::from_name(value.as_bytes()).or(found.level);
            } else if self.wanted.iter().any(|wanted| wanted == name || wanted == "*") {
                fields.add(name, value);
            }
        };
        match (&self.pattern, inner) {
            (Some(pattern), _) => {
                let Some(captures) = pattern.captures(text) else { return found };
                for name in pattern.capture_names().flatten() {
                    if let Some(group) = captures.name(name) {
                        see(name, group.as_str());
                    }
                }
            }
            (None, Format::Json | Format::Docker) => each_json(text, &mut see),
            (None, Format::Logfmt) => logfmt::each(text, &mut see),
            (None, Format::Access) => access::each(text, &mut see),
            (None, Format::Syslog) => syslog::each(text, &mut see),
            (None, Format::Cri | Format::Klog | Format::Error | Format::Plain) => {}
        }
        found
    }
}

/// Scalars of an object, those of objects within it as `outer.inner`.
fn each_json(text: &str, see: &mut dyn FnMut(&str, &str)) {
    if let Ok(Value::Object(map)) = serde_json::from_str(text) {
        each_of(&map, "", 0, see);
    }
}

fn each_of(map: &serde_json::Map<String, Value>, within: &str, depth: usize, see: &mut dyn FnMut(&str, &str)) {
    for (name, value) in map {
        let name = if within.is_empty() { name.clone() } else { format!("{within}.{name}") };
        match value {
            Value::String(text) => see(&name, text),
            Value::Number(number) => see(&name, &number.to_string()),
            Value::Bool(is_true) => see(&name, if *is_true { "true" } else { "false" }),
            Value::Object(inner) if depth < MAX_DEPTH => each_of(inner, &name, depth + 1, see),
            Value::Object(_) | Value::Array(_) | Value::Null => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_NS: i64 = 1_795_156_000_000_000_000; // 2026-11-20T06:26:40Z

    fn check(source: &str, line: &str, expected: (&str, Option<&str>, Option<Level>)) {
        let source: LogSource = serde_json::from_str(source).expect("a good source");
        let content = Content::of(&source).expect("good").expect("something is asked for");
        let format = Format::detect(&[line.as_bytes()], NOW_NS);
        let parsed = format.parse(line.as_bytes(), NOW_NS);
        let mut fields = Fields::default();
        let found = content.read(std::str::from_utf8(&parsed.text).expect("text"), format, NOW_NS, &mut fields);
        let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let t_ns = expected.1.map(|t| model::parse_rfc3339_ns(t).expect("a good time"));
        assert_eq!((fields.join(" ").as_str(), found.t_ns, found.level), (expected.0, t_ns, expected.2), "{line}");
    }

    #[test]
    fn fields_levels_and_times_are_found() {
        let t = Some("2026-11-20T06:25:00Z");
        check(
            r#"{"format": "regex", "pattern": "^(?P<at>\\S+) (?P<level>\\w+) (?P<user>\\w+)", "timestamp": {"field": "at"}}"#,
            "2026-11-20T06:25:00Z WARN bob came",
            ("user=bob", t, Some(Level::Warn)),
        );
        check(
            r#"{"fields": ["user.id", "ok"], "timestamp": {"field": "when", "format": "unix"}}"#,
            r#"{"when": 1795155900, "user": {"id": 7, "name": "x"}, "ok": true}"#,
            ("ok=true user_id=7", t, None),
        );
        check(
            r#"{"fields": ["status"]}"#,
            r#"2026-11-20T06:25:00Z stdout F {"status": "bad", "level": "error"}"#,
            ("status=bad", None, Some(Level::Error)),
        );
        check(
            r#"{"format": "logfmt", "fields": ["*"]}"#,
            "2026-11-20T06:25:01Z stdout F ts=2026-11-20T06:25:00Z level=info a=b",
            ("ts=2026-11-20T06:25:00Z a=b", None, Some(Level::Info)),
        );
        check(r#"{"fields": ["app", "pid"]}"#, "Nov 20 06:25:00 host prog[12]: hi", ("app=prog pid=12", None, None));
    }
}
