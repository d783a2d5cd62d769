//! The names that rotation gives: which files beside `x.log` are its past, and in which order.
//!
//! Numbered (`x.log.1`, the higher the older), dated (`x.log-20260101`, `0.log.20260101-101500`, the lower the older),
//! each perhaps compressed.

use std::cmp::Ordering;

/// How a name's end says that it was compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    /// Told apart, never read.
    Other,
}

/// What a sibling's suffix says about its age.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Age {
    Dated(String),
    Numbered(u64),
    /// `x.log.old` and the like: known files are recognised under such names, unknown ones are not read.
    Other(String),
}

impl Age {
    pub fn is_rotation(&self) -> bool {
        !matches!(self, Age::Other(_))
    }

    /// Oldest first.
    pub fn cmp_oldest_first(&self, other: &Age) -> Ordering {
        let rank = |age: &Age| match age {
            Age::Other(_) => 0,
            Age::Dated(_) => 1,
            Age::Numbered(_) => 2,
        };
        match (self, other) {
            (Age::Numbered(a), Age::Numbered(b)) => b.cmp(a),
            (Age::Dated(a), Age::Dated(b)) | (Age::Other(a), Age::Other(b)) => a.cmp(b),
            (a, b) => rank(a).cmp(&rank(b)),
        }
    }
}

/// The compression that a name's end tells, and the name without it.
pub fn compression(name: &str) -> (Compression, &str) {
    if let Some(stem) = name.strip_suffix(".gz") {
        return (Compression::Gzip, stem);
    }
    let other = [".xz", ".zst", ".bz2", ".lz4", ".zip", ".Z"].iter().find_map(|end| name.strip_suffix(end));
    other.map_or((Compression::None, name), |stem| (Compression::Other, stem))
}

/// What `name` is to `base`, when it is a sibling of it: `base.*` or `base-*`.
pub fn sibling(base: &str, name: &str) -> Option<(Age, Compression)> {
    let (compression, stem) = compression(name);
    let suffix = stem.strip_prefix(base)?;
    if suffix.is_empty() {
        // `x.log.gz` beside `x.log`.
        return (compression != Compression::None).then(|| (Age::Other(String::new()), compression));
    }
    let text = suffix.strip_prefix(['.', '-'])?;
    Some((age(text), compression))
}

/// The name that a rotated-looking name was rotated from.
pub fn rotated_from(name: &str) -> Option<&str> {
    let (_, stem) = compression(name);
    let places = stem.char_indices().filter(|(at, c)| *at > 0 && matches!(c, '.' | '-'));
    for (at, separator) in places {
        match age(&stem[at + 1..]) {
            Age::Numbered(_) if separator == '.' => return Some(&stem[..at]),
            Age::Dated(_) => return Some(&stem[..at]),
            _ => {}
        }
    }
    None
}

fn age(text: &str) -> Age {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let numeric_only = digits == text.len() && digits > 0;
    if numeric_only && digits <= 5 {
        return text.parse().map_or_else(|_| Age::Other(text.to_owned()), Age::Numbered);
    }
    let is_date = |c: u8| c.is_ascii_digit() || matches!(c, b'-' | b'_' | b'T' | b':' | b'.');
    let many = text.bytes().filter(u8::is_ascii_digit).count() >= 6;
    if digits >= 4 && many && text.bytes().all(is_date) {
        return Age::Dated(text.to_owned());
    }
    Age::Other(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(names: &[&str], expected: &[&str]) {
        let mut found: Vec<_> = names.iter().filter_map(|name| Some((sibling("x.log", name)?, *name))).collect();
        found.retain(|((age, _), _)| age.is_rotation());
        found.sort_by(|((a, _), _), ((b, _), _)| a.cmp_oldest_first(b));
        assert_eq!(found.iter().map(|(_, name)| *name).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn siblings_are_ordered_from_the_oldest() {
        check(&["x.log.1", "x.log.10.gz", "x.log.2", "x.log", "y.log.1"], &["x.log.10.gz", "x.log.2", "x.log.1"]);
        check(&["x.log-20260102", "x.log-20260101.gz", "x.log-old"], &["x.log-20260101.gz", "x.log-20260102"]);
        check(
            &["x.log.20260101-101500.gz", "x.log.20260101-101501"],
            &["x.log.20260101-101500.gz", "x.log.20260101-101501"],
        );
        check(&["x.log.tmp", "x.log.swp", "x.log.1.tmp"], &[]);
    }

    #[test]
    fn rotated_names_know_their_origin() {
        for (name, expected) in [
            ("x.log.1", Some("x.log")),
            ("syslog.2.gz", Some("syslog")),
            ("x.log-20260101", Some("x.log")),
            ("0.log.20260101-101500", Some("0.log")),
            ("0.log", None),
            ("postgresql-15-main.log", None),
            ("app-2.log", None),
            ("worker-1", None),
        ] {
            assert_eq!(rotated_from(name), expected, "{name}");
        }
    }
}
