//! A line's level, by a cheap look at its beginning.

use crate::logs::multiline::is_klog;

/// How far into a line its level is looked for.
const LOOK_BYTES: usize = 128;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Fatal,
}

impl Level {
    pub fn name(self) -> &'static str {
        match self {
            Level::Trace => "trace",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
            Level::Fatal => "fatal",
        }
    }

    /// A level's name in any case, or the usual variants of it.
    pub fn from_name(name: &[u8]) -> Option<Level> {
        let is = |names: &[&str]| names.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()));
        match name.len() {
            4..=13 if is(&["info", "notice", "informational"]) => Some(Level::Info),
            4..=7 if is(&["warn", "warning"]) => Some(Level::Warn),
            3..=5 if is(&["error", "err"]) => Some(Level::Error),
            5 if is(&["debug"]) => Some(Level::Debug),
            5 if is(&["trace"]) => Some(Level::Trace),
            4..=9 if is(&["fatal", "critical", "crit", "panic", "emerg", "alert"]) => Some(Level::Fatal),
            _ => None,
        }
    }
}

/// Finds `ERROR`, `[error]` or `level=error` near the beginning. A lower-case word alone says nothing.
pub fn detect(line: &[u8]) -> Option<Level> {
    if is_klog(line) {
        return Some(match line[0] {
            b'W' => Level::Warn,
            b'E' => Level::Error,
            b'F' => Level::Fatal,
            _ => Level::Info,
        });
    }
    let look = &line[..line.len().min(LOOK_BYTES)];
    let mut at = 0;
    while at < look.len() {
        if !look[at].is_ascii_alphabetic() {
            at += 1;
            continue;
        }
        let len = look[at..].iter().take_while(|c| c.is_ascii_alphabetic()).count();
        let word = &look[at..at + len];
        let before = at.checked_sub(1).map(|i| look[i]);
        let is_marked = word[0].is_ascii_uppercase() && word[len - 1].is_ascii_uppercase()
            || before == Some(b'[') && look.get(at + len) == Some(&b']')
            || is_value_of_level(&look[..at]);
        if is_marked && let Some(level) = Level::from_name(word) {
            return Some(level);
        }
        at += len;
    }
    None
}

fn is_value_of_level(before: &[u8]) -> bool {
    let before = before.strip_suffix(b"\"").unwrap_or(before);
    [&b"level="[..], b"lvl=", b"severity=", b"\"level\":", b"\"level\": "].iter().any(|key| before.ends_with(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Option<Level>) {
        assert_eq!(detect(line.as_bytes()), expected, "{line}");
    }

    #[test]
    fn levels_are_found_where_they_are_marked() {
        check("2026-11-20 ERROR something", Some(Level::Error));
        check("2026/11/20 [warn] 1#1: x", Some(Level::Warn));
        check("ts=1 level=info msg=x", Some(Level::Info));
        check(r#"ts=1 level="debug" msg=x"#, Some(Level::Debug));
        check("no error was found", None);
        check("INFORMATION", None);
        check("a CRITICAL one", Some(Level::Fatal));
        check("E1120 06:25:00.000000 1 x.go:1] y", Some(Level::Error));
        check("", None);
    }
}
