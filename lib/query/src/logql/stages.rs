//! The parser of pipeline stages.

use regex::Regex;

use super::filter::{Comparison, LabelFilter, LineFilter, LineTest, Unit};
use super::format::Template;
use super::json::parse_path;
use super::lexer::Token;
use super::parser::Parser;
use super::pattern::Pattern;
use super::pipeline::{Chosen, LabelSource, Stage};
use crate::{QueryError, Span};

/// ANSI colour codes.
const COLOUR_CODES: &str = "\u{1b}\\[[0-9;]*m";

fn regex(pattern: &str, span: Span) -> Result<Regex, QueryError> {
    Regex::new(pattern).map_err(|error| span.error(format!("error parsing regexp: {error}")))
}

impl Parser {
    /// The next stage, if there is one.
    pub(super) fn stage(&mut self) -> Result<Option<Stage>, QueryError> {
        let (test, negated) = match self.peek() {
            Token::Symbol("|=") => ("=", false),
            Token::Symbol("!=") => ("=", true),
            Token::Symbol("|~") => ("~", false),
            Token::Symbol("!~") => ("~", true),
            Token::Symbol("|>") => (">", false),
            Token::Symbol("!>") => (">", true),
            // A range aggregation reads its own `unwrap`.
            Token::Symbol("|") if self.word_after_is("unwrap") => return Ok(None),
            Token::Symbol("|") => {
                self.take();
                return self.named_stage().map(Some);
            }
            _ => return Ok(None),
        };
        self.take();
        let mut any = vec![self.line_test(test)?];
        while self.eat_word("or") {
            any.push(self.line_test(test)?);
        }
        Ok(Some(Stage::Line(LineFilter { negated, any })))
    }

    fn line_test(&mut self, test: &str) -> Result<LineTest, QueryError> {
        let span = self.span();
        if matches!(self.peek(), Token::Word(word) if word == "ip") && self.next_is("(") {
            return Err(span.error("ip() filters are not supported"));
        }
        let text = self.text()?;
        Ok(match test {
            "~" => LineTest::Regex(regex(&text, span)?),
            ">" => LineTest::Pattern(Pattern::testing(&text).map_err(|message| span.error(message))?),
            _ => LineTest::Contains(text),
        })
    }

    fn named_stage(&mut self) -> Result<Stage, QueryError> {
        let Token::Word(name) = self.peek().clone() else { return self.label_filter().map(Stage::Label) };
        let is_label = ["=", "!=", "=~", "!~", "==", ">", ">=", "<", "<="].iter().any(|op| self.next_is(op));
        if is_label {
            return self.label_filter().map(Stage::Label);
        }
        let known = [
            "json",
            "logfmt",
            "regexp",
            "pattern",
            "unpack",
            "decolorize",
            "line_format",
            "label_format",
            "drop",
            "keep",
        ];
        if !known.contains(&name.as_str()) {
            return Err(self.unexpected("a parser, a format, a label filter, drop, keep or unwrap"));
        }
        self.take();
        let span = self.span();
        Ok(match name.as_str() {
            "json" => {
                let fields = self.extractions()?;
                let path = |(name, path): (String, String)| parse_path(&path).map(|path| (name, path));
                let paths: Result<Vec<_>, String> = fields.into_iter().map(path).collect();
                Stage::Json(paths.map_err(|message| span.error(message))?)
            }
            "logfmt" => {
                let (mut strict, mut keep_empty) = (false, false);
                loop {
                    match () {
                        () if self.eat("--strict") => strict = true,
                        () if self.eat("--keep-empty") => keep_empty = true,
                        () => break,
                    }
                }
                Stage::Logfmt { strict, keep_empty, fields: self.extractions()? }
            }
            "regexp" => {
                let regex = regex(&self.text()?, span)?;
                if regex.capture_names().flatten().next().is_none() {
                    return Err(span.error("at least one named capture must be supplied"));
                }
                Stage::Regexp(regex)
            }
            "pattern" => Stage::Pattern(Pattern::extracting(&self.text()?).map_err(|message| span.error(message))?),
            "unpack" => Stage::Unpack,
            "decolorize" => Stage::Decolorize(regex(COLOUR_CODES, span)?),
            "line_format" => Stage::LineFormat(self.template()?),
            "label_format" => Stage::LabelFormat(self.label_formats()?),
            "drop" => Stage::Drop(self.chosen()?),
            _ => Stage::Keep(self.chosen()?),
        })
    }

    fn template(&mut self) -> Result<Template, QueryError> {
        let span = self.span();
        Template::parse(&self.text()?).map_err(|message| span.error(message))
    }

    /// `a="x.y", b`: labels and what they are taken from.
    fn extractions(&mut self) -> Result<Vec<(String, String)>, QueryError> {
        let mut fields = Vec::new();
        while matches!(self.peek(), Token::Word(_)) {
            // Within a range aggregation `offset` may follow.
            if matches!(self.peek(), Token::Word(word) if word == "offset") && !self.next_is("=") {
                break;
            }
            let name = self.word("IDENTIFIER")?;
            let from = if self.eat("=") { self.text()? } else { name.clone() };
            fields.push((name, from));
            if !self.eat(",") {
                break;
            }
        }
        Ok(fields)
    }

    fn label_formats(&mut self) -> Result<Vec<(String, LabelSource)>, QueryError> {
        let mut formats: Vec<(String, LabelSource)> = Vec::new();
        loop {
            let span = self.span();
            let target = self.word("IDENTIFIER")?;
            if formats.iter().any(|(known, _)| *known == target) {
                return Err(
                    span.error(format!("multiple label name '{target}' not allowed in a single format operation"))
                );
            }
            self.expect("=")?;
            let source = match self.peek() {
                Token::Text(_) => LabelSource::Template(self.template()?),
                _ => LabelSource::Rename(self.word("IDENTIFIER or STRING")?),
            };
            formats.push((target, source));
            if !self.eat(",") {
                return Ok(formats);
            }
        }
    }

    fn chosen(&mut self) -> Result<Vec<Chosen>, QueryError> {
        let mut chosen = Vec::new();
        loop {
            let name = self.word("IDENTIFIER")?;
            let is_matcher = matches!(self.peek(), Token::Symbol("=" | "!=" | "=~" | "!~"));
            chosen.push(if is_matcher { Chosen::Match(self.matcher(name)?) } else { Chosen::Name(name) });
            if !self.eat(",") {
                return Ok(chosen);
            }
        }
    }

    /// Alternatives of conjunctions; `and`, a comma or nothing joins a conjunction.
    pub(super) fn label_filter(&mut self) -> Result<LabelFilter, QueryError> {
        self.deeper()?;
        let mut left = self.label_conjunction()?;
        while self.eat_word("or") {
            let right = self.label_conjunction()?;
            left = LabelFilter::Or(Box::new(left), Box::new(right));
        }
        self.shallower();
        Ok(left)
    }

    fn label_conjunction(&mut self) -> Result<LabelFilter, QueryError> {
        let mut left = self.label_condition()?;
        loop {
            let joined = self.eat_word("and") || self.eat(",");
            let follows = match self.peek() {
                Token::Word(word) => word != "or" && word != "offset",
                token => *token == Token::Symbol("("),
            };
            if !joined && !follows {
                return Ok(left);
            }
            let right = self.label_condition()?;
            left = LabelFilter::And(Box::new(left), Box::new(right));
        }
    }

    fn label_condition(&mut self) -> Result<LabelFilter, QueryError> {
        if self.eat("(") {
            let inner = self.label_filter()?;
            self.expect(")")?;
            return Ok(inner);
        }
        let name = self.word("a label filter")?;
        let op = match self.peek() {
            Token::Symbol("=" | "==") => Comparison::Equal,
            Token::Symbol("!=") => Comparison::NotEqual,
            Token::Symbol(">") => Comparison::Greater,
            Token::Symbol(">=") => Comparison::GreaterEqual,
            Token::Symbol("<") => Comparison::Less,
            Token::Symbol("<=") => Comparison::LessEqual,
            _ => return self.matcher(name).map(LabelFilter::Match),
        };
        let (at, span) = (self.mark(), self.span());
        self.take();
        let negative = self.eat("-");
        let sign = if negative { -1.0 } else { 1.0 };
        let (value, unit) = match *self.peek() {
            Token::Number(value) => (value, Unit::Number),
            Token::Duration(ns) => (ns as f64, Unit::DurationNs),
            Token::Bytes(bytes) => (bytes, Unit::Bytes),
            Token::Word(ref word) if word == "ip" => return Err(span.error("ip() filters are not supported")),
            _ if negative => return Err(self.unexpected("NUMBER")),
            _ => {
                self.rewind(at);
                return self.matcher(name).map(LabelFilter::Match);
            }
        };
        self.take();
        Ok(LabelFilter::Compare { name, op, value: sign * value, unit })
    }
}
