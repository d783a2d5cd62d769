//! What a script expects of an evaluation beside its values: failures, annotations, order.

use regex::Regex;

use crate::literal::{parse_number, unquote};
use crate::{Answer, QueryError};

use super::notation::{WrittenSeries, parse_series};
use super::time_ms;

/// How a message must read.
#[derive(Debug)]
pub(super) enum Message {
    Any,
    Exactly(String),
    Matching(Regex),
}

impl Message {
    /// After `expect warn`: nothing, `msg: text` or `regex: pattern`.
    fn parse(text: &str) -> Result<Message, String> {
        if let Some(message) = text.strip_prefix("msg:") {
            return Ok(Message::Exactly(message.trim().to_owned()));
        }
        if let Some(pattern) = text.strip_prefix("regex:") {
            return Ok(Message::Matching(Regex::new(pattern.trim()).map_err(|error| error.to_string())?));
        }
        if text.is_empty() { Ok(Message::Any) } else { Err(format!("expected msg: or regex:, got {text:?}")) }
    }

    fn fits(&self, text: &str) -> bool {
        match self {
            Message::Any => true,
            Message::Exactly(message) => message == text,
            Message::Matching(pattern) => pattern.is_match(text),
        }
    }
}

/// The range vector that an instant query may return.
#[derive(Debug, Clone, Copy)]
pub(super) struct RangeVector {
    pub start_ms: i64,
    pub end_ms: i64,
    pub step_ms: i64,
}

#[derive(Debug, Default)]
pub(super) struct Expected {
    pub fail: Option<Message>,
    pub ordered: bool,
    pub text: Option<String>,
    pub scalar: Option<f64>,
    pub range_vector: Option<RangeVector>,
    pub rows: Vec<WrittenSeries>,
    warnings: Notes,
    infos: Notes,
}

/// An annotation without its place and what it counted: what scripts name, unless they name all of it.
fn bare(text: &str) -> &str {
    let text = text.strip_suffix(')').and_then(|text| text.rsplit_once(" (")).map_or(text, |(text, _)| text);
    let text =
        text.strip_suffix(" occurrences)").and_then(|text| text.rsplit_once(" (")).map_or(text, |(text, _)| text);
    text.split_once(", from buckets ").map_or(text, |(text, _)| text)
}

/// The annotations of one level.
#[derive(Debug, Default)]
struct Notes {
    wanted: Vec<Message>,
    forbidden: bool,
}

impl Notes {
    fn check(&self, level: &str, found: &[String]) -> Result<(), String> {
        if self.forbidden && !found.is_empty() {
            return Err(format!("unexpected {level} annotations: {found:?}"));
        }
        let fits = |message: &Message, text: &String| message.fits(text) || message.fits(bare(text));
        if let Some(missing) = self.wanted.iter().find(|message| !found.iter().any(|text| fits(message, text))) {
            return Err(format!("expected {level} annotation {missing:?}, found {found:?}"));
        }
        let unwanted = found.iter().find(|text| !self.wanted.iter().any(|message| fits(message, text)));
        match unwanted {
            Some(text) if !self.wanted.is_empty() => Err(format!("unexpected {level} annotation {text:?}")),
            _ => Ok(()),
        }
    }
}

impl Expected {
    /// `modifier` is what followed `eval_` in the older notation.
    pub fn parse(modifier: &str, block: &[&str]) -> Result<Expected, String> {
        let mut expected = Expected::default();
        match modifier {
            "" => {}
            "fail" => expected.fail = Some(Message::Any),
            "warn" => expected.warnings.wanted.push(Message::Any),
            "info" => expected.infos.wanted.push(Message::Any),
            "ordered" => expected.ordered = true,
            other => return Err(format!("unknown command eval_{other}")),
        }
        for line in block {
            expected.line(line)?;
        }
        if expected.infos.forbidden && !expected.infos.wanted.is_empty() {
            return Err("invalid expect lines, info and no_info cannot be used together".to_owned());
        }
        if expected.warnings.forbidden && !expected.warnings.wanted.is_empty() {
            return Err("invalid expect lines, warn and no_warn cannot be used together".to_owned());
        }
        Ok(expected)
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        if let Some(message) = line.strip_prefix("expected_fail_message") {
            self.fail = Some(Message::Exactly(message.trim().to_owned()));
            return Ok(());
        }
        if let Some(pattern) = line.strip_prefix("expected_fail_regexp") {
            self.fail = Some(Message::parse(&format!("regex:{pattern}"))?);
            return Ok(());
        }
        let Some(what) = line.strip_prefix("expect ") else {
            match parse_number(line) {
                Some(number) => self.scalar = Some(number),
                None => self.rows.push(parse_series(line)?),
            }
            return Ok(());
        };
        let (kind, message) = what.trim_start().split_once(char::is_whitespace).unwrap_or((what.trim(), ""));
        let message = message.trim();
        match kind {
            "fail" if self.fail.is_some() => {
                return Err("invalid expect lines, multiple expect fail lines are not allowed".to_owned());
            }
            "fail" => self.fail = Some(Message::parse(message)?),
            "warn" => self.warnings.wanted.push(Message::parse(message)?),
            "info" => self.infos.wanted.push(Message::parse(message)?),
            "no_warn" => self.warnings.forbidden = true,
            "no_info" => self.infos.forbidden = true,
            "ordered" => self.ordered = true,
            "string" => self.text = Some(unquote(message)?),
            "range" => self.range_vector = Some(range_vector(message)?),
            other => return Err(format!("unknown expectation {other:?}")),
        }
        Ok(())
    }

    /// The answer, unless failing was what it should do.
    pub fn check(&self, answer: Result<Answer, QueryError>) -> Result<Option<Answer>, String> {
        let answer = match (answer, &self.fail) {
            (Err(error), None) => return Err(format!("failed: {error}")),
            (Err(error), Some(message)) if message.fits(&error.to_string()) => return Ok(None),
            (Err(error), Some(message)) => return Err(format!("expected error {message:?}, but got: {error}")),
            (Ok(_), Some(_)) => return Err("expected an error but got none".to_owned()),
            (Ok(answer), None) => answer,
        };
        self.warnings.check("warn", &answer.warnings)?;
        self.infos.check("info", &answer.infos)?;
        Ok(Some(answer))
    }
}

/// `vector from A to B step C`.
fn range_vector(text: &str) -> Result<RangeVector, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let ["vector", "from", from, "to", to, "step", step] = words[..] else {
        return Err("expected: expect range vector from A to B step C".to_owned());
    };
    Ok(RangeVector { start_ms: time_ms(from)?, end_ms: time_ms(to)?, step_ms: time_ms(step)? })
}
