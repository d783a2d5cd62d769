//! nginx' and Apache's logs: access lines in the common and combined formats, and both servers' error lines.

use chrono::{DateTime, Local, NaiveDateTime, TimeZone};

use super::{Level, Parsed};

const MAX_WORD_BYTES: usize = 256;

/// Fields of an access line, as far as they are there.
struct Access<'a> {
    remote: &'a str,
    user: &'a str,
    time: &'a str,
    request: &'a str,
    status: &'a str,
    bytes: &'a str,
    /// Referrer and user agent.
    rest: &'a str,
}

/// `host ident user [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.1" 200 2326 "referrer" "agent"`.
fn split(line: &str) -> Option<Access<'_>> {
    let (remote, rest) = line.split_once(' ')?;
    let (_ident, rest) = rest.split_once(' ')?;
    let (user, rest) = rest.split_once(" [")?;
    let (time, rest) = rest.split_once("] \"")?;
    if time.len() > MAX_WORD_BYTES {
        return None;
    }
    let (request, rest) = rest.split_once("\" ")?;
    let (status, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let (bytes, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let is_status = status.len() == 3 && status.bytes().all(|c| c.is_ascii_digit());
    is_status.then_some(Access { remote, user, time, request, status, bytes, rest })
}

pub fn parse(line: &[u8]) -> Option<Parsed<'_>> {
    let access = split(std::str::from_utf8(line).ok()?)?;
    let t_ns = DateTime::parse_from_str(access.time, "%d/%b/%Y:%H:%M:%S %z").ok()?.timestamp_nanos_opt()?;
    let level = match access.status.as_bytes()[0] {
        b'5' => Level::Error,
        b'4' => Level::Warn,
        _ => Level::Info,
    };
    Some(Parsed { t_ns: Some(t_ns), level: Some(level), ..Parsed::plain(line) })
}

/// Calls back for every field of an access line.
pub fn each(line: &str, found: &mut dyn FnMut(&str, &str)) {
    let Some(access) = split(line) else { return };
    let mut request = access.request.splitn(3, ' ');
    let mut quoted = access.rest.split('"').skip(1).step_by(2);
    let fields = [
        ("remote_addr", Some(access.remote)),
        ("remote_user", Some(access.user)),
        ("time", Some(access.time)),
        ("method", request.next()),
        ("path", request.next()),
        ("protocol", request.next()),
        ("status", Some(access.status)),
        ("bytes", Some(access.bytes)),
        ("referer", quoted.next()),
        ("user_agent", quoted.next()),
    ];
    for (name, value) in fields {
        if let Some(value) = value.filter(|value| !value.is_empty() && *value != "-") {
            found(name, value);
        }
    }
}

/// nginx' `2026/11/20 06:25:00 [error] 1#2: *3 message` and Apache's `[Fri Nov 20 06:25:00.1 2026] [core:error] [pid 1] …`.
pub fn parse_error(line: &[u8]) -> Option<Parsed<'_>> {
    let text = std::str::from_utf8(&line[..line.len().min(MAX_WORD_BYTES)])
        .or_else(|error| std::str::from_utf8(&line[..error.valid_up_to()]))
        .ok()?;
    let (time, level) = match text.strip_prefix('[') {
        Some(apache) => {
            let (time, rest) = apache.split_once("] [")?;
            let module = rest.split(']').next()?;
            (local(time, "%a %b %d %H:%M:%S%.f %Y")?, module.rsplit(':').next()?)
        }
        None => {
            let (time, rest) = text.split_at_checked(19)?;
            (local(time, "%Y/%m/%d %H:%M:%S")?, rest.strip_prefix(" [")?.split(']').next()?)
        }
    };
    Some(Parsed { t_ns: Some(time), level: Level::from_name(level.as_bytes()), ..Parsed::plain(line) })
}

fn local(time: &str, format: &str) -> Option<i64> {
    let naive = NaiveDateTime::parse_from_str(time, format).ok()?;
    Local.from_local_datetime(&naive).earliest()?.timestamp_nanos_opt()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMBINED: &str = r#"10.0.0.1 - bob [20/Nov/2026:07:25:00 +0100] "GET /a?b HTTP/1.1" 404 12 "-" "curl/8 (x)""#;

    fn check(line: &str, expected: &str) {
        let mut found = Vec::new();
        each(line, &mut |key, value| found.push(format!("{key}={value}")));
        assert_eq!(found.join(" "), expected, "{line}");
    }

    #[test]
    fn access_lines_are_taken_apart() {
        check(
            COMBINED,
            "remote_addr=10.0.0.1 remote_user=bob time=20/Nov/2026:07:25:00 +0100 method=GET path=/a?b \
             protocol=HTTP/1.1 status=404 bytes=12 user_agent=curl/8 (x)",
        );
        check("not one", "");
        let parsed = parse(COMBINED.as_bytes()).expect("an access line");
        assert_eq!(parsed.t_ns, model::parse_rfc3339_ns("2026-11-20T06:25:00Z"));
        assert_eq!(parsed.level, Some(Level::Warn));
    }

    #[test]
    fn error_lines_tell_time_and_level() {
        let expected = local("2026/11/20 06:25:00", "%Y/%m/%d %H:%M:%S");
        for line in [
            "2026/11/20 06:25:00 [error] 7#7: *1 open() failed",
            "[Fri Nov 20 06:25:00.000000 2026] [core:error] [pid 1:tid 2] [client ::1] AH1: no",
        ] {
            let parsed = parse_error(line.as_bytes()).expect("an error line");
            assert_eq!((parsed.t_ns, parsed.level), (expected, Some(Level::Error)), "{line}");
        }
        assert_eq!(parse_error(b"2026/11/20 is a day"), None);
    }
}
