//! Kubernetes' klog: `Lmmdd hh:mm:ss.uuuuuu thread file:line] message`, the letter being the level.

use std::borrow::Cow;

use chrono::NaiveTime;

use super::{Level, Parsed, Stream, in_recent_year};

pub fn parse(line: &[u8], now_ns: i64) -> Option<Parsed<'_>> {
    let level = match line.first()? {
        b'I' => Level::Info,
        b'W' => Level::Warn,
        b'E' => Level::Error,
        b'F' => Level::Fatal,
        _ => return None,
    };
    if line.len() < 21 || line[5] != b' ' || memchr::memchr(b']', &line[..line.len().min(256)]).is_none() {
        return None;
    }
    let head = std::str::from_utf8(&line[1..21]).ok()?;
    let (month, day) = (head.get(..2)?.parse().ok()?, head.get(2..4)?.parse().ok()?);
    let time = NaiveTime::parse_from_str(head.get(5..)?, "%H:%M:%S%.f").ok()?;
    let t_ns = Some(in_recent_year(month, day, time, now_ns)?);
    Some(Parsed { text: Cow::Borrowed(line), t_ns, stream: Stream::Unnamed, is_partial: false, level: Some(level) })
}
