//! `key=value key="quoted value"`: what Go services and routers write.

use super::{Level, Parsed};

/// A line is logfmt when it begins with a pair and has another one.
pub fn parse(line: &[u8]) -> Option<Parsed<'_>> {
    let text = std::str::from_utf8(line).ok()?;
    let (mut pairs, mut t_ns, mut level) = (0, None, None);
    let first = text.find('=')?;
    if !is_key(&text[..first]) {
        return None;
    }
    each(text, &mut |key, value| {
        pairs += 1;
        match key {
            "ts" | "time" | "timestamp" | "t" if t_ns.is_none() => t_ns = model::parse_rfc3339_ns(value),
            "level" | "lvl" | "severity" if level.is_none() => level = Level::from_name(value.as_bytes()),
            _ => {}
        }
    });
    (pairs >= 2).then_some(Parsed { t_ns, level, ..Parsed::plain(line) })
}

fn is_key(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.' | b'/' | b'@'))
}

/// Calls back for every pair; what is no pair is passed over.
pub fn each(text: &str, found: &mut dyn FnMut(&str, &str)) {
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = rest.find([' ', '=']).unwrap_or(rest.len());
        let (key, after) = rest.split_at(end);
        let Some(value) = after.strip_prefix('=') else {
            rest = after.trim_start();
            continue;
        };
        let end = match value.strip_prefix('"') {
            Some(quoted) => 1 + closing_quote(quoted).unwrap_or(quoted.len()),
            None => value.find(' ').unwrap_or(value.len()),
        };
        let (raw, after) = value.split_at(end);
        if is_key(key) {
            match raw.strip_prefix('"') {
                Some(quoted) if quoted.contains('\\') => found(key, &unescaped(quoted)),
                Some(quoted) => found(key, quoted),
                None => found(key, raw),
            }
        }
        rest = after.strip_prefix('"').unwrap_or(after).trim_start();
    }
}

fn closing_quote(quoted: &str) -> Option<usize> {
    let mut is_escaped = false;
    quoted.bytes().position(|c| {
        let closes = c == b'"' && !is_escaped;
        is_escaped = c == b'\\' && !is_escaped;
        closes
    })
}

fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.extend(chars.next().map(|escaped| match escaped {
                'n' => '\n',
                't' => '\t',
                other => other,
            })),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: &[(&str, &str)]) {
        let mut found = Vec::new();
        each(line, &mut |key, value| found.push((key.to_owned(), value.to_owned())));
        let expected: Vec<_> = expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        assert_eq!(found, expected, "{line}");
    }

    #[test]
    fn pairs_are_found() {
        check("a=1 b=\"x \\\"y\\\" z\" c= d", &[("a", "1"), ("b", "x \"y\" z"), ("c", "")]);
        check("msg=\"open", &[("msg", "open")]);
        check("just words", &[]);
        let parsed = parse(b"ts=2026-11-20T06:25:00Z level=warn msg=x").expect("logfmt");
        assert_eq!(parsed.level, Some(Level::Warn));
        assert!(parsed.t_ns.is_some() && parse(b"a=b only one pair").is_none() && parse(b"SELECT a = b").is_none());
    }
}
