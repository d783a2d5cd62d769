//! What keeps or drops a line: filters on its text and on its labels.

use model::Matcher;
use regex::Regex;
use template::convert;

use super::ip::IpMatcher;
use super::literal;
use super::pattern::Pattern;
use super::row::{ERROR, Row};
use crate::{AnyOf, WordTest};

/// `|=`, `|~`, `|>` and their negations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineOp {
    Contains,
    Regex,
    Pattern,
}

#[derive(Debug, Clone)]
pub(super) enum LineTest {
    Contains(String),
    /// The pattern as it was written, too.
    Regex(String, Regex),
    Pattern(String, Pattern),
    Ip(IpMatcher),
}

/// `|= "a" or "b"`: keeps a line if any test holds; the negated forms if none does.
#[derive(Debug, Clone)]
pub(super) struct LineFilter {
    pub op: LineOp,
    pub negated: bool,
    pub any: Vec<LineTest>,
}

impl LineFilter {
    pub fn keeps(&self, line: &str) -> bool {
        let holds = |test: &LineTest| match test {
            LineTest::Contains(needle) => memchr::memmem::find(line.as_bytes(), needle.as_bytes()).is_some(),
            LineTest::Regex(_, regex) => regex.is_match(line),
            LineTest::Pattern(_, pattern) => pattern.matches(line),
            LineTest::Ip(matcher) => matcher.is_in(line),
        };
        self.any.iter().any(holds) != self.negated
    }

    /// What every kept line holds, if something is known.
    pub fn required(&self) -> Option<AnyOf> {
        let of = |test: &LineTest| match test {
            LineTest::Contains(needle) => Some(AnyOf::one(needle.as_str())),
            LineTest::Regex(_, regex) => literal::required(regex.as_str()),
            LineTest::Pattern(_, pattern) => pattern.longest_literal().map(AnyOf::one),
            LineTest::Ip(_) => None,
        };
        if self.negated { None } else { literal::either(self.any.iter().map(of)) }
    }

    /// What a word of every kept line matches, if it is about words.
    pub fn word_test(&self) -> Option<WordTest> {
        match self.any.as_slice() {
            [LineTest::Regex(_, regex)] if !self.negated => literal::word_test(regex.as_str()),
            _ => None,
        }
    }

    /// Whether it keeps each line that is as [`LineFilter::required`] or [`LineFilter::word_test`] say, and no other.
    pub fn is_told(&self) -> bool {
        let is_literal = |test: &LineTest| matches!(test, LineTest::Contains(needle) if !needle.is_empty());
        !self.negated
            && match self.any.as_slice() {
                [LineTest::Regex(_, regex)] => literal::about_words(regex.as_str()).is_some(),
                any => any.iter().all(is_literal),
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

impl Comparison {
    pub fn as_str(self) -> &'static str {
        match self {
            Comparison::Equal => "==",
            Comparison::NotEqual => "!=",
            Comparison::Greater => ">",
            Comparison::GreaterEqual => ">=",
            Comparison::Less => "<",
            Comparison::LessEqual => "<=",
        }
    }

    fn holds<T: PartialOrd>(self, left: T, right: T) -> bool {
        match self {
            Comparison::Equal => left == right,
            Comparison::NotEqual => left != right,
            Comparison::Greater => left > right,
            Comparison::GreaterEqual => left >= right,
            Comparison::Less => left < right,
            Comparison::LessEqual => left <= right,
        }
    }
}

/// What a label's value is read as, and compared with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Quantity {
    Number(f64),
    DurationNs(i64),
    Bytes(u64),
}

impl Quantity {
    /// Whether a label's text compares so; an error if it is not of this kind.
    fn compare(self, op: Comparison, text: &str) -> Result<bool, String> {
        Ok(match self {
            Quantity::Number(value) => op.holds(convert::float(text)?, value),
            Quantity::DurationNs(value) => op.holds(convert::duration_ns(text)?, value),
            Quantity::Bytes(value) => op.holds(convert::bytes(text)?, value),
        })
    }
}

#[derive(Debug, Clone)]
pub(super) enum LabelFilter {
    Match(Matcher),
    Compare { name: String, op: Comparison, value: Quantity },
    Ip { name: String, negated: bool, matcher: IpMatcher },
    All(Vec<LabelFilter>),
    Any(Vec<LabelFilter>),
}

impl LabelFilter {
    /// A value that cannot be read marks the row with `LabelFilterErr` and keeps it. All of a conjunction's conditions are
    /// looked at; of a disjunction's those up to the first that holds.
    pub fn keeps(&self, row: &mut Row<'_>) -> bool {
        match self {
            LabelFilter::Match(matcher) => matcher.matches(row.text(&matcher.name)),
            LabelFilter::All(filters) => {
                let dropping = filters.iter().filter(|filter| !filter.keeps(row)).count();
                dropping == 0
            }
            LabelFilter::Any(filters) => filters.iter().any(|filter| filter.keeps(row)),
            LabelFilter::Compare { name, op, value } => match row.fields.get(name) {
                None => false,
                Some(text) => value.compare(*op, text).unwrap_or_else(|details| {
                    if !row.has_error() {
                        row.fail("LabelFilterErr", &details);
                    }
                    true
                }),
            },
            LabelFilter::Ip { name, negated, matcher } => match row.fields.get(name) {
                _ if row.has_error() => true,
                None => false,
                Some(text) => matcher.is_in(text) != *negated,
            },
        }
    }

    /// Whether it asks for faulty lines.
    pub fn names_error(&self) -> bool {
        match self {
            LabelFilter::Match(matcher) => matcher.name == ERROR,
            LabelFilter::All(filters) | LabelFilter::Any(filters) => filters.iter().any(LabelFilter::names_error),
            LabelFilter::Compare { .. } | LabelFilter::Ip { .. } => false,
        }
    }
}
