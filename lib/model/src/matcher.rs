//! Label matchers: `name="value"`, `!=`, `=~`, `!~`. Regexes are anchored at both ends.

use std::fmt;

use regex::Regex;
use thiserror::Error;

use crate::Labels;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MatchOp {
    Equal,
    NotEqual,
    Regex,
    NotRegex,
}

impl MatchOp {
    pub fn as_str(self) -> &'static str {
        match self {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex => "=~",
            MatchOp::NotRegex => "!~",
        }
    }
}

#[derive(Debug, Error)]
#[error("bad regular expression {pattern:?} for label {name}: {reason}")]
pub struct MatcherError {
    pub name: String,
    pub pattern: String,
    pub reason: String,
}

/// One condition on one label. An absent label matches as the empty string.
#[derive(Clone)]
pub struct Matcher {
    pub name: String,
    pub op: MatchOp,
    pub value: String,
    regex: Option<Regex>,
}

impl Matcher {
    pub fn new(name: impl Into<String>, op: MatchOp, value: impl Into<String>) -> Result<Matcher, MatcherError> {
        let (name, value) = (name.into(), value.into());
        let regex = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::Regex | MatchOp::NotRegex => Some(Self::compile(&name, &value)?),
        };
        Ok(Matcher { name, op, value, regex })
    }

    /// An equality matcher, which cannot fail.
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Matcher {
        Matcher { name: name.into(), op: MatchOp::Equal, value: value.into(), regex: None }
    }

    /// As in Prometheus, `.` matches a newline too.
    fn compile(name: &str, pattern: &str) -> Result<Regex, MatcherError> {
        Regex::new(&format!("^(?s:{pattern})$")).map_err(|error| MatcherError {
            name: name.to_owned(),
            pattern: pattern.to_owned(),
            reason: error.to_string(),
        })
    }

    pub fn matches(&self, value: &str) -> bool {
        match (self.op, &self.regex) {
            (MatchOp::Equal, _) => value == self.value,
            (MatchOp::NotEqual, _) => value != self.value,
            (MatchOp::Regex, Some(regex)) => regex.is_match(value),
            (MatchOp::NotRegex, Some(regex)) => !regex.is_match(value),
            (MatchOp::Regex | MatchOp::NotRegex, None) => unreachable!("regex matchers hold their regex"),
        }
    }

    /// Whether a set without this label matches.
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }

    /// The regex of `=~` and `!~`, anchored.
    pub fn regex(&self) -> Option<&Regex> {
        self.regex.as_ref()
    }
}

/// Whether every matcher accepts the set.
pub fn matches_all(matchers: &[Matcher], labels: &Labels) -> bool {
    matchers.iter().all(|matcher| matcher.matches(labels.get(&matcher.name).unwrap_or("")))
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Matcher) -> bool {
        self.name == other.name && self.op == other.op && self.value == other.value
    }
}

impl Eq for Matcher {}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if crate::is_label_name(&self.name) {
            write!(f, "{}", self.name)?;
        } else {
            write!(f, "{:?}", self.name)?;
        }
        write!(f, "{}{:?}", self.op.as_str(), self.value)
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(op: MatchOp, pattern: &str, value: &str, expected: bool) {
        let matcher = Matcher::new("x", op, pattern).expect("a good matcher");
        assert_eq!(matcher.matches(value), expected, "{matcher} on {value:?}");
    }

    #[test]
    fn regexes_are_anchored_and_see_newlines() {
        check(MatchOp::Regex, "a|b", "ab", false);
        check(MatchOp::Regex, "a.*", "a\nb", true);
        check(MatchOp::NotRegex, "a", "ba", true);
        check(MatchOp::Equal, "", "", true);
        check(MatchOp::NotEqual, "x", "", true);
        assert!(Matcher::new("x", MatchOp::Regex, "(").is_err());
    }
}
