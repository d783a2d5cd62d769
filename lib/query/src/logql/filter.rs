//! What keeps or drops a line: filters on its text and on its labels.

use model::Matcher;
use regex::Regex;

use super::pattern::Pattern;
use super::row::Row;
use super::units::{parse_bytes, parse_duration_ns};
use crate::literal::parse_number;

#[derive(Debug, Clone)]
pub(super) enum LineTest {
    Contains(String),
    Regex(Regex),
    Pattern(Pattern),
}

/// `|= "a" or "b"`: keeps a line if any test holds; the negated forms if none does.
#[derive(Debug, Clone)]
pub(super) struct LineFilter {
    pub negated: bool,
    pub any: Vec<LineTest>,
}

impl LineFilter {
    pub fn keeps(&self, line: &str) -> bool {
        let holds = |test: &LineTest| match test {
            LineTest::Contains(needle) => memchr::memmem::find(line.as_bytes(), needle.as_bytes()).is_some(),
            LineTest::Regex(regex) => regex.is_match(line),
            LineTest::Pattern(pattern) => pattern.matches(line),
        };
        self.any.iter().any(holds) != self.negated
    }

    /// The text that every kept line holds, if one is known.
    pub fn literal(&self) -> Option<&str> {
        match self.any.as_slice() {
            [LineTest::Contains(needle)] if !self.negated && !needle.is_empty() => Some(needle),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Number,
    DurationNs,
    Seconds,
    Bytes,
}

impl Unit {
    pub fn parse(self, text: &str) -> Option<f64> {
        match self {
            Unit::Number => parse_number(text),
            Unit::DurationNs => parse_duration_ns(text).map(|ns| ns as f64),
            Unit::Seconds => parse_duration_ns(text).map(|ns| ns as f64 / 1e9),
            Unit::Bytes => parse_bytes(text),
        }
    }
}

#[derive(Debug, Clone)]
pub(super) enum LabelFilter {
    Match(Matcher),
    Compare { name: String, op: Comparison, value: f64, unit: Unit },
    And(Box<LabelFilter>, Box<LabelFilter>),
    Or(Box<LabelFilter>, Box<LabelFilter>),
}

impl LabelFilter {
    /// A value that is no number marks the row with `LabelFilterErr` and keeps it, as in Loki.
    pub fn keeps(&self, row: &mut Row<'_>) -> bool {
        match self {
            LabelFilter::Match(matcher) => matcher.matches(row.get(&matcher.name)),
            LabelFilter::And(left, right) => left.keeps(row) && right.keeps(row),
            LabelFilter::Or(left, right) => left.keeps(row) || right.keeps(row),
            LabelFilter::Compare { name, op, value, unit } => {
                if row.has_error() {
                    return true;
                }
                let text = row.get(name);
                if text.is_empty() {
                    return false;
                }
                let Some(number) = unit.parse(text) else {
                    let details = format!("cannot compare {name}={text:?} with a {unit:?}");
                    row.fail("LabelFilterErr", &details);
                    return true;
                };
                match op {
                    Comparison::Equal => number == *value,
                    Comparison::NotEqual => number != *value,
                    Comparison::Greater => number > *value,
                    Comparison::GreaterEqual => number >= *value,
                    Comparison::Less => number < *value,
                    Comparison::LessEqual => number <= *value,
                }
            }
        }
    }
}
