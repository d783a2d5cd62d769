//! Syslog files: RFC 3164's `Mmm dd hh:mm:ss host tag: message` and the ISO variant that rsyslog and Debian write now.

use std::borrow::Cow;

use chrono::NaiveTime;

use super::{Parsed, Stream, in_recent_year};

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

pub fn parse(line: &[u8], now_ns: i64) -> Option<Parsed<'_>> {
    let text = std::str::from_utf8(&line[..line.len().min(128)])
        .or_else(|error| std::str::from_utf8(&line[..error.valid_up_to()]));
    let text = without_priority(text.ok()?);
    let t_ns = Some(if text.starts_with(|c: char| c.is_ascii_digit()) { iso(text)? } else { bsd(text, now_ns)? });
    Some(Parsed { text: Cow::Borrowed(line), t_ns, stream: Stream::Unnamed, is_partial: false, level: None })
}

/// Takes off `<13>`.
fn without_priority(text: &str) -> &str {
    let Some((priority, rest)) = text.strip_prefix('<').and_then(|rest| rest.split_once('>')) else { return text };
    let is_priority = (1..=3).contains(&priority.len()) && priority.bytes().all(|c| c.is_ascii_digit());
    if is_priority { rest } else { text }
}

/// The time must be followed by a host and a tag: a bare ISO time may begin any plain line.
fn iso(text: &str) -> Option<i64> {
    let mut words = text.split(' ');
    let time = words.next()?;
    let _host = words.next().filter(|host| !host.is_empty())?;
    let tag = words.next()?;
    if !tag.ends_with(':') || tag.len() < 2 {
        return None;
    }
    model::parse_rfc3339_ns(time)
}

fn bsd(text: &str, now_ns: i64) -> Option<i64> {
    let month = MONTHS.iter().position(|name| text.starts_with(name))? as u32 + 1;
    let day = text.get(3..6)?.strip_prefix(' ')?.trim_start().parse().ok()?;
    if text.as_bytes().get(6) != Some(&b' ') || text.as_bytes().get(15) != Some(&b' ') {
        return None;
    }
    let time = NaiveTime::parse_from_str(text.get(7..15)?, "%H:%M:%S").ok()?;
    in_recent_year(month, day, time, now_ns)
}
