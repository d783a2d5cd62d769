//! One JSON object per line; its time and level are looked for under the usual names.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;

use super::{Level, Parsed, Stream};

#[derive(Deserialize)]
struct Fields<'a> {
    ts: Option<Value>,
    time: Option<Value>,
    timestamp: Option<Value>,
    #[serde(rename = "@timestamp")]
    at_timestamp: Option<Value>,
    #[serde(borrow)]
    level: Option<Cow<'a, str>>,
    #[serde(borrow)]
    severity: Option<Cow<'a, str>>,
}

pub fn parse(line: &[u8]) -> Option<Parsed<'_>> {
    if line.first() != Some(&b'{') || line.last() != Some(&b'}') {
        return None;
    }
    let Ok(fields) = serde_json::from_slice::<Fields<'_>>(line) else {
        // An object whose level is a number, say, is an object all the same.
        serde_json::from_slice::<serde::de::IgnoredAny>(line).ok()?;
        return Some(Parsed::plain(line));
    };
    let times = [fields.ts, fields.time, fields.timestamp, fields.at_timestamp];
    let t_ns = times.into_iter().flatten().find_map(|value| instant(&value));
    let level = fields.level.or(fields.severity).and_then(|name| Level::from_name(name.as_bytes()));
    Some(Parsed { text: Cow::Borrowed(line), t_ns, stream: Stream::Unnamed, is_partial: false, level })
}

/// RFC 3339 text, or a number since the epoch whose size tells its unit: s, ms, µs or ns.
fn instant(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => model::parse_rfc3339_ns(text),
        Value::Number(number) => {
            let number_f = number.as_f64()?;
            let unit_ns = match number_f {
                n if n < 1e8 => return None,
                n if n < 1e11 => 1e9,
                n if n < 1e14 => 1e6,
                n if n < 1e17 => 1e3,
                _ => return number.as_i64(),
            };
            // Microseconds are as fine as a float of this size is.
            Some((number_f * unit_ns / 1e3).round() as i64 * 1000)
        }
        _ => None,
    }
}
