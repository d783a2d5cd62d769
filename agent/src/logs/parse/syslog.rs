//! Syslog: RFC 5424, RFC 3164's `Mmm dd hh:mm:ss host tag: message`, and the ISO variant that rsyslog and Debian write now.

use chrono::NaiveTime;

use super::{Level, Parsed, in_recent_year};

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/// How far into a line its head may reach.
const HEAD_BYTES: usize = 512;
const FACILITIES: [&str; 24] = [
    "kern",
    "user",
    "mail",
    "daemon",
    "auth",
    "syslog",
    "lpr",
    "news",
    "uucp",
    "cron",
    "authpriv",
    "ftp",
    "ntp",
    "security",
    "console",
    "solaris-cron",
    "local0",
    "local1",
    "local2",
    "local3",
    "local4",
    "local5",
    "local6",
    "local7",
];

/// A message taken apart; what is not there is empty.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Syslog<'a> {
    pub priority: Option<u8>,
    pub t_ns: Option<i64>,
    pub host: &'a str,
    pub app: &'a str,
    pub pid: &'a str,
    pub message_id: &'a str,
    pub text: &'a str,
}

impl<'a> Syslog<'a> {
    pub fn parse(line: &'a str, now_ns: i64) -> Option<Syslog<'a>> {
        let (priority, rest) = priority(line);
        let parsed = match rest.strip_prefix("1 ") {
            Some(rest) if priority.is_some() => modern(rest)?,
            _ if rest.starts_with(|c: char| c.is_ascii_digit()) => iso(rest)?,
            _ => bsd(rest, now_ns)?,
        };
        Some(Syslog { priority, ..parsed })
    }

    pub fn level(&self) -> Option<Level> {
        Some(match self.priority? % 8 {
            0..=2 => Level::Fatal,
            3 => Level::Error,
            4 => Level::Warn,
            5 | 6 => Level::Info,
            _ => Level::Debug,
        })
    }

    pub fn facility(&self) -> &'static str {
        self.priority.and_then(|priority| FACILITIES.get(usize::from(priority / 8))).copied().unwrap_or("")
    }
}

pub fn parse(line: &[u8], now_ns: i64) -> Option<Parsed<'_>> {
    let head = &line[..line.len().min(HEAD_BYTES)];
    let text = std::str::from_utf8(head).or_else(|error| std::str::from_utf8(&head[..error.valid_up_to()])).ok()?;
    let syslog = Syslog::parse(text, now_ns)?;
    // A bare ISO time may begin any plain line.
    (syslog.t_ns.is_some() || syslog.priority.is_some()).then_some(Parsed {
        t_ns: syslog.t_ns,
        level: syslog.level(),
        ..Parsed::plain(line)
    })
}

/// Calls back for every field.
pub fn each(line: &str, found: &mut dyn FnMut(&str, &str)) {
    let Some(syslog) = Syslog::parse(line, model::now_ns()) else { return };
    let Syslog { host, app, pid, message_id, .. } = syslog;
    let fields = [("host", host), ("app", app), ("pid", pid), ("msgid", message_id), ("facility", syslog.facility())];
    fields.into_iter().filter(|(_, value)| !value.is_empty()).for_each(|(name, value)| found(name, value));
}

/// Takes off `<13>`.
fn priority(text: &str) -> (Option<u8>, &str) {
    let parsed = text.strip_prefix('<').and_then(|rest| rest.split_once('>')).and_then(|(number, rest)| {
        let is_number = (1..=3).contains(&number.len()) && number.bytes().all(|c| c.is_ascii_digit());
        let number = number.parse().ok().filter(|number| is_number && *number < 192)?;
        Some((Some(number), rest))
    });
    parsed.unwrap_or((None, text))
}

/// `TIME HOST APP PID MSGID [data] message`, where `-` stands for nothing.
fn modern(text: &str) -> Option<Syslog<'_>> {
    let mut rest = text;
    let mut words = [""; 5];
    for word in &mut words {
        let (one, after) = rest.split_once(' ')?;
        *word = if one == "-" { "" } else { one };
        rest = after;
    }
    let [time, host, app, pid, message_id] = words;
    let message = after_data(rest)?;
    let message = message.strip_prefix('\u{feff}').unwrap_or(message);
    let t_ns = if time.is_empty() { None } else { Some(model::parse_rfc3339_ns(time)?) };
    Some(Syslog { priority: None, t_ns, host, app, pid, message_id, text: message })
}

/// What follows structured data: `-`, or `[id name="value"]…`.
fn after_data(text: &str) -> Option<&str> {
    let mut rest = text;
    if let Some(after) = rest.strip_prefix('-') {
        return Some(after.strip_prefix(' ').unwrap_or(after));
    }
    while let Some(element) = rest.strip_prefix('[') {
        let (mut is_quoted, mut is_escaped) = (false, false);
        let end = element.bytes().position(|c| {
            let ends = c == b']' && !is_quoted && !is_escaped;
            is_quoted ^= c == b'"' && !is_escaped;
            is_escaped = c == b'\\' && !is_escaped;
            ends
        })?;
        rest = &element[end + 1..];
    }
    (rest.len() < text.len()).then(|| rest.strip_prefix(' ').unwrap_or(rest))
}

/// The time must be followed by a host and a tag.
fn iso(text: &str) -> Option<Syslog<'_>> {
    let (time, rest) = text.split_once(' ')?;
    let (host, rest) = rest.split_once(' ').filter(|(host, _)| !host.is_empty())?;
    let end = rest.find(' ').unwrap_or(rest.len());
    if end < 2 || !rest[..end].ends_with(':') {
        return None;
    }
    let t_ns = Some(model::parse_rfc3339_ns(time)?);
    Some(Syslog { t_ns, host, ..tagged(rest) })
}

fn bsd(text: &str, now_ns: i64) -> Option<Syslog<'_>> {
    let month = MONTHS.iter().position(|name| text.starts_with(name))? as u32 + 1;
    let day = text.get(3..6)?.strip_prefix(' ')?.trim_start().parse().ok()?;
    if text.as_bytes().get(6) != Some(&b' ') || text.as_bytes().get(15) != Some(&b' ') {
        return None;
    }
    let time = NaiveTime::parse_from_str(text.get(7..15)?, "%H:%M:%S").ok()?;
    let t_ns = Some(in_recent_year(month, day, time, now_ns)?);
    let rest = text.get(16..)?;
    let (host, rest) = rest.split_once(' ').unwrap_or(("", rest));
    Some(Syslog { t_ns, host, ..tagged(rest) })
}

/// `tag[pid]: message`.
fn tagged(text: &str) -> Syslog<'_> {
    let is_tag = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '@' | '(' | ')');
    let end = text.find(|c: char| !is_tag(c)).unwrap_or(text.len());
    let (app, mut rest) = text.split_at(end);
    let mut pid = "";
    if let Some((number, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        (pid, rest) = (number, after);
    }
    match rest.strip_prefix(':') {
        Some(message) => Syslog { app, pid, text: message.strip_prefix(' ').unwrap_or(message), ..Syslog::default() },
        None => Syslog { text, ..Syslog::default() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_NS: i64 = 1_795_156_000_000_000_000; // 2026-11-20T06:26:40Z

    fn check(line: &str, expected: Option<[&str; 6]>) {
        let got = Syslog::parse(line, NOW_NS);
        let fields = got.as_ref().map(|s| [s.host, s.app, s.pid, s.message_id, s.facility(), s.text]);
        assert_eq!(fields, expected, "{line}");
    }

    #[test]
    fn both_syslogs_are_taken_apart() {
        let iso = "2026-11-20T06:25:00Z host prog[1]: hi there";
        check(iso, Some(["host", "prog", "1", "", "", "hi there"]));
        check("<38>Nov 20 06:25:00 host su: hi", Some(["host", "su", "", "", "auth", "hi"]));
        check("<13>Nov  2 06:25:00 host no tag", Some(["host", "", "", "", "user", "no tag"]));
        check(
            r#"<165>1 2026-11-20T06:25:00.003Z h app 12 ID47 [x@1 a="b \"]\" c"][y] An event"#,
            Some(["h", "app", "12", "ID47", "local4", "An event"]),
        );
        check("<34>1 - - - - - - ", Some(["", "", "", "", "auth", ""]));
        check("<34>1 2026-11-20T06:25:00Z h a", None);
        check("<999>x", None);
        let line = "<11>1 2026-11-20T06:25:00Z h a - - - bad";
        assert_eq!(parse(line.as_bytes(), NOW_NS).expect("syslog").level, Some(Level::Error));
    }
}
