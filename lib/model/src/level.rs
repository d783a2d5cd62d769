//! The level of a line, found as Loki 3 finds it at arrival (`discover_log_levels`): a field of a JSON or logfmt line, else a
//! word that names one.

use aho_corasick::{AhoCorasick, MatchKind};

/// Labels, structured metadata and fields of a line that hold its level, the likelier first: Loki's, and ECS' once flattened.
pub const LEVEL_FIELDS: [&str; 15] = [
    "level",
    "LEVEL",
    "Level",
    "log.level",
    "log_level",
    "severity",
    "SEVERITY",
    "Severity",
    "SeverityText",
    "lvl",
    "LVL",
    "Lvl",
    "severity_text",
    "Severity_Text",
    "SEVERITY_TEXT",
];

/// Of a line that names none.
pub const UNKNOWN_LEVEL: &str = "unknown";

/// Spellings, any case, and what they mean.
const SPELLINGS: [(&str, &str); 14] = [
    ("info", "info"),
    ("error", "error"),
    ("warn", "warn"),
    ("debug", "debug"),
    ("warning", "warn"),
    ("err", "error"),
    ("trace", "trace"),
    ("fatal", "fatal"),
    ("critical", "critical"),
    ("inf", "info"),
    ("wrn", "warn"),
    ("dbg", "debug"),
    ("trc", "trace"),
    ("information", "info"),
];

/// How words of a text begin that name a level, what may follow to the word's end, and what it means. Of several in a line
/// the first of these counts.
const WORDS: [(&str, &str, &str); 7] = [
    ("trace", "", "trace"),
    ("debug", "", "debug"),
    ("fatal", "", "fatal"),
    ("critical", "", "critical"),
    ("err", "or", "error"),
    ("warn", "ing", "warn"),
    ("info", "", "info"),
];
/// Objects of a JSON line, one within the other, that are looked into.
const MAX_JSON_DEPTH: usize = 2;

/// What a level's name means; `None` where it is none of the known ones.
pub fn known_level(name: &[u8]) -> Option<&'static str> {
    SPELLINGS.iter().find(|(spelling, _)| spelling.as_bytes().eq_ignore_ascii_case(name)).map(|(_, level)| *level)
}

/// The level of an OpenTelemetry severity number.
pub fn level_of_severity(number: &str) -> &'static str {
    match number.parse::<i64>() {
        Err(_) => "info",
        Ok(1..=4) => "trace",
        Ok(5..=8) => "debug",
        Ok(9..=12) => "info",
        Ok(13..=16) => "warn",
        Ok(17..=20) => "error",
        Ok(21..=24) => "fatal",
        Ok(_) => UNKNOWN_LEVEL,
    }
}

/// Finds levels; made once, because its search is.
#[derive(Debug, Clone)]
pub struct LevelFinder {
    fields: Vec<String>,
    /// Every word in small letters, in capitals, and with a capital.
    words: AhoCorasick,
}

impl LevelFinder {
    /// One that looks for these fields, the likelier first.
    pub fn new(fields: &[String]) -> LevelFinder {
        let capital = |word: &str| word[..1].to_ascii_uppercase() + &word[1..];
        let spelled =
            WORDS.iter().flat_map(|(word, ..)| [(*word).to_owned(), word.to_ascii_uppercase(), capital(word)]);
        let words = AhoCorasick::builder().match_kind(MatchKind::LeftmostFirst).build(spelled);
        LevelFinder { fields: fields.to_vec(), words: words.expect("a few short words") }
    }

    /// The value of the first of its fields that `get` has.
    pub fn named<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> Option<&'a str> {
        self.fields.iter().find_map(|field| get(field))
    }

    /// The level that a line's text says.
    pub fn of_text(&self, line: &str) -> &'static str {
        let bytes = line.as_bytes();
        let trimmed = bytes.trim_ascii();
        let value = match (trimmed.first(), trimmed.last()) {
            (Some(b'{'), Some(b'}')) => self.in_json(trimmed),
            _ => self.in_logfmt(bytes),
        };
        value.and_then(known_level).unwrap_or_else(|| self.in_words(bytes))
    }

    fn in_json<'l>(&self, line: &'l [u8]) -> Option<&'l [u8]> {
        let (mut at, mut objects, mut arrays) = (0, 0usize, 0usize);
        while let Some(byte) = line.get(at) {
            at += 1;
            match byte {
                b'"' => {
                    let text = string(line, &mut at)?;
                    let is_key = arrays == 0 && objects <= MAX_JSON_DEPTH && next_is(line, &mut at, b':');
                    if is_key && next_is(line, &mut at, b'"') {
                        let value = string(line, &mut at)?;
                        if self.fields.iter().any(|field| field.as_bytes() == text) {
                            return Some(value);
                        }
                    }
                }
                b'[' => arrays += 1,
                b']' => arrays = arrays.checked_sub(1)?,
                b'{' if arrays == 0 => objects += 1,
                b'}' if arrays == 0 => objects = objects.checked_sub(1)?,
                _ => {}
            }
        }
        None
    }

    /// The value of the likeliest field.
    fn in_logfmt<'l>(&self, line: &'l [u8]) -> Option<&'l [u8]> {
        let (mut at, mut likeliest, mut found) = (0, self.fields.len(), None);
        while let Some(equals) = memchr::memchr(b'=', &line[at..]).map(|distance| at + distance) {
            let before = &line[at..equals];
            let key = &before[before.iter().rposition(|byte| *byte <= b' ').map_or(0, |blank| blank + 1)..];
            at = equals + 1;
            let value = match line.get(at) {
                Some(b'"') => {
                    at += 1;
                    let Some(value) = string(line, &mut at) else { break };
                    value
                }
                _ => {
                    let rest = &line[at..];
                    let value = &rest[..memchr::memchr2(b' ', b'\t', rest).unwrap_or(rest.len())];
                    at += value.len();
                    value
                }
            };
            let place = self.fields[..likeliest].iter().position(|field| field.as_bytes().eq_ignore_ascii_case(key));
            if let Some(place) = place {
                (likeliest, found) = (place, Some(value));
                if place == 0 {
                    break;
                }
            }
        }
        found
    }

    fn in_words(&self, line: &[u8]) -> &'static str {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii();
        let mut first = WORDS.len();
        for found in self.words.find_iter(line) {
            let word = found.pattern().as_usize() / 3;
            let ends_here = |at: usize| line.get(at).is_none_or(|byte| !is_part(*byte));
            let rest = WORDS[word].1;
            let goes_on = || {
                let end = found.end() + rest.len();
                line.get(found.end()..end).is_some_and(|more| more.eq_ignore_ascii_case(rest.as_bytes()))
                    && ends_here(end)
            };
            let begins_here = found.start().checked_sub(1).is_none_or(|before| !is_part(line[before]));
            if word < first && begins_here && (ends_here(found.end()) || goes_on()) {
                first = word;
            }
        }
        WORDS.get(first).map_or(UNKNOWN_LEVEL, |(.., level)| level)
    }
}

/// What stands before the closing quote, which is passed; `None` where there is none.
fn string<'l>(line: &'l [u8], at: &mut usize) -> Option<&'l [u8]> {
    let start = *at;
    loop {
        let found = *at + memchr::memchr2(b'"', b'\\', line.get(*at..)?)?;
        if line[found] == b'"' {
            *at = found + 1;
            return Some(&line[start..found]);
        }
        *at = found + 2;
    }
}

/// Passes blanks, and the byte if it comes next.
fn next_is(line: &[u8], at: &mut usize, wanted: u8) -> bool {
    while line.get(*at).is_some_and(u8::is_ascii_whitespace) {
        *at += 1;
    }
    let is_next = line.get(*at) == Some(&wanted);
    *at += usize::from(is_next);
    is_next
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn finder() -> LevelFinder {
        LevelFinder::new(&LEVEL_FIELDS.map(str::to_owned))
    }

    fn check(line: &str, expected: &str) {
        assert_eq!(finder().of_text(line), expected, "{line}");
    }

    #[test]
    fn of_json() {
        check(r#"{"msg":"an error","level":"INFO"}"#, "info");
        check(r#" {"a":[{"level":"warn"}],"b":{"severity":"Wrn"}} "#, "warn");
        check(r#"{"a":{"b":{"level":"warn"}}}"#, "warn");
        check(r#"{"a":{"b":{"lvl":"wrn"}}}"#, "unknown");
        check(r#"{"msg":"\"level\":\"warn\"","lvl" : "dbg"}"#, "debug");
        check(r#"{"level":30,"msg":"it is fatal"}"#, "fatal");
        check(r#"{"level":"strange","msg":"a warning"}"#, "warn");
        check(r#"{"level":"#, "unknown");
    }

    #[test]
    fn of_logfmt() {
        check("ts=1 level=warn msg=\"an error\"", "warn");
        check("ts=1 msg=\"no level=warn here\" LVL=inf", "info");
        check("severity=error level=debug", "debug");
        check("a=\"never ends level=warn", "warn");
        check("xlevel=debug level=a lvl=warn", "debug");
        check("xlevel=a_warn", "unknown");
        check("=", "unknown");
    }

    #[test]
    fn of_words() {
        check("2026-11-30 12:00:00 [ERROR] it broke", "error");
        check("Error: it broke", "error");
        check("err: x", "error");
        check("errors were found", "unknown");
        check("a terror", "unknown");
        check("INFO then WARNING", "warn");
        check("info then debug", "debug");
        check("information", "unknown");
        check("x_info infoé", "unknown");
        check("", "unknown");
    }

    #[test]
    fn of_severities() {
        let check = |number: &str, expected: &str| assert_eq!(level_of_severity(number), expected, "{number}");
        check("0", "unknown");
        check("1", "trace");
        check("9", "info");
        check("17", "error");
        check("24", "fatal");
        check("25", "unknown");
        check("x", "info");
    }

    proptest! {
        #[test]
        fn any_line_has_one(line in "[{}\\[\\]\":=\\\\ ,a-e]{0,40}|\\PC{0,40}") {
            finder().of_text(&line);
        }
    }
}
