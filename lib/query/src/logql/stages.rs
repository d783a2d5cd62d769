//! The parser of pipeline stages.

use model::{MatchOp, Matcher};
use regex::Regex;
use template::convert;

use super::fault;
use super::filter::{Comparison, LabelFilter, LineFilter, LineOp, LineTest, Quantity};
use super::format::Template;
use super::go_regex;
use super::ip::IpMatcher;
use super::json::parse_path;
use super::lexer::Token;
use super::parser::Parser;
use super::pattern::Pattern;
use super::pipeline::{Chosen, LabelSource, Stage};
use super::row::{ERROR, ERROR_DETAILS};
use crate::QueryError;
use crate::literal::quote;

/// Terminal sequences: colours, cursor movements, titles.
const TERMINAL_CODES: &str = "[\u{1b}\u{9b}](?:\\[[0-9;?]*[ -/]*[@-~]|\\][^\u{7}]*\u{7}|[0-9;]*[A-Za-z])";

const STAGES: [&str; 10] =
    ["json", "logfmt", "regexp", "pattern", "unpack", "decolorize", "line_format", "label_format", "drop", "keep"];

/// A fault of a stage, with the stage, as Loki words it.
fn stage_fault(stage: &str, message: impl std::fmt::Display) -> QueryError {
    fault(format!("stage '{stage}' : {message}"))
}

impl Parser {
    /// The next stage, if there is one.
    pub(super) fn stage(&mut self) -> Result<Option<Stage>, QueryError> {
        let (op, negated) = match self.peek() {
            Token::Symbol("|=") => (LineOp::Contains, false),
            Token::Symbol("!=") => (LineOp::Contains, true),
            Token::Symbol("|~") => (LineOp::Regex, false),
            Token::Symbol("!~") => (LineOp::Regex, true),
            Token::Symbol("|>") => (LineOp::Pattern, false),
            Token::Symbol("!>") => (LineOp::Pattern, true),
            // A range aggregation reads its own `unwrap`.
            Token::Symbol("|") if self.word_after_is("unwrap") => return Ok(None),
            Token::Symbol("|") => {
                self.take();
                return self.named_stage().map(Some);
            }
            _ => return Ok(None),
        };
        let symbol = self.peek().describe(false);
        self.take();
        let mut any = vec![self.line_test(&symbol, op)?];
        while self.eat_word("or") {
            any.push(self.line_test(&symbol, op)?);
        }
        Ok(Some(Stage::Line(LineFilter { op, negated, any })))
    }

    fn line_test(&mut self, symbol: &str, op: LineOp) -> Result<LineTest, QueryError> {
        if self.is_call("ip") {
            let pattern = self.ip_pattern()?;
            let stage = format!("{symbol} ip({})", quote(&pattern));
            if op != LineOp::Contains {
                return Err(stage_fault(&stage, "ip: invalid operation"));
            }
            return IpMatcher::parse(&pattern).map(LineTest::Ip).map_err(|message| stage_fault(&stage, message));
        }
        if !matches!(self.peek(), Token::Text(_)) {
            return Err(self.unexpected("STRING or ip"));
        }
        let text = self.text()?;
        let stage = |message: String| stage_fault(&format!("{symbol} {}", quote(&text)), message);
        Ok(match op {
            LineOp::Regex => {
                let regex = go_regex::compile(&text).map_err(stage)?;
                LineTest::Regex(text, regex)
            }
            LineOp::Pattern => {
                let pattern = Pattern::testing(&text).map_err(stage)?;
                LineTest::Pattern(text, pattern)
            }
            LineOp::Contains => LineTest::Contains(text),
        })
    }

    /// `ip("…")`.
    fn ip_pattern(&mut self) -> Result<String, QueryError> {
        self.take();
        self.expect("(")?;
        let pattern = self.text()?;
        self.expect(")")?;
        Ok(pattern)
    }

    fn named_stage(&mut self) -> Result<Stage, QueryError> {
        let Token::Word(name) = self.peek().clone() else { return self.label_filter().map(Stage::Label) };
        let is_label = ["=", "!=", "=~", "!~", "==", ">", ">=", "<", "<="].iter().any(|op| self.next_is(op));
        if is_label {
            return self.label_filter().map(Stage::Label);
        }
        let name = name.to_ascii_lowercase();
        if !STAGES.contains(&name.as_str()) {
            if name == "unwrap" {
                return Err(self.unexpected(""));
            }
            return self.label_filter().map(Stage::Label);
        }
        self.take();
        Ok(match name.as_str() {
            "json" => {
                let mut paths = Vec::new();
                for (name, text) in self.extractions()? {
                    let path = parse_path(&text);
                    let stage = format!("| json {name}={}", quote(&text));
                    paths.push((name, text, path.map_err(|message| stage_fault(&stage, message))?));
                }
                Stage::Json(paths)
            }
            "logfmt" => {
                let (mut strict, mut keep_empty) = (false, false);
                while let Token::Flag(flag) = *self.peek() {
                    self.take();
                    if flag == "--strict" { strict = true } else { keep_empty = true }
                }
                Stage::Logfmt { strict, keep_empty, fields: self.extractions()? }
            }
            "regexp" => {
                let text = self.text()?;
                let regex = capturing(&text).map_err(|reason| fault(format!("invalid regexp parser: {reason}")))?;
                Stage::Regexp(text, regex)
            }
            "pattern" => {
                let text = self.text()?;
                let pattern = Pattern::extracting(&text);
                Stage::Pattern(text, pattern.map_err(|reason| fault(format!("invalid pattern parser: {reason}")))?)
            }
            "unpack" => Stage::Unpack,
            "decolorize" => Stage::Decolorize(go_regex::compile(TERMINAL_CODES).map_err(fault)?),
            "line_format" => {
                let text = self.text()?;
                let stage = format!("| line_format {}", quote(&text));
                let template = Template::parse("line", &text);
                let reason = |reason| stage_fault(&stage, format!("invalid line template: {reason}"));
                Stage::LineFormat(template.map_err(reason)?)
            }
            "label_format" => Stage::LabelFormat(self.label_formats()?),
            "drop" => Stage::Drop(self.chosen()?),
            _ => Stage::Keep(self.chosen()?),
        })
    }

    /// `a="x.y", b`: labels and what they are taken from.
    fn extractions(&mut self) -> Result<Vec<(String, String)>, QueryError> {
        let mut fields = Vec::new();
        while matches!(self.peek(), Token::Word(_)) {
            // Within a range aggregation `offset` may follow.
            if self.peek_is_word("offset") && !self.next_is("=") {
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
            let target = self.word("IDENTIFIER")?;
            self.expect("=")?;
            let (source, shown) = match self.peek() {
                Token::Text(_) => {
                    let text = self.text()?;
                    let shown = quote(&text);
                    let template = Template::parse("label", &text);
                    let reason = |reason| {
                        let stage = format!("| label_format {target}={shown}");
                        stage_fault(&stage, format!("invalid template for label '{target}': {reason}"))
                    };
                    (LabelSource::Template(template.map_err(reason)?), shown)
                }
                _ => {
                    let from = self.word("IDENTIFIER or STRING")?;
                    (LabelSource::Rename(from.clone()), from)
                }
            };
            let stage = format!("| label_format {target}={shown}");
            if target == ERROR {
                return Err(stage_fault(&stage, format!("{ERROR} cannot be formatted")));
            }
            if formats.iter().any(|(known, _)| *known == target) {
                let message = format!("multiple label name '{target}' not allowed in a single format operation");
                return Err(stage_fault(&stage, message));
            }
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
        let mut any = vec![self.label_conjunction()?];
        while self.eat_word("or") {
            any.push(self.label_conjunction()?);
        }
        self.shallower();
        Ok(if any.len() == 1 { any.remove(0) } else { LabelFilter::Any(any) })
    }

    fn label_conjunction(&mut self) -> Result<LabelFilter, QueryError> {
        let mut all = vec![self.label_condition()?];
        loop {
            let joined = self.eat_word("and") || self.eat(",");
            let follows = match self.peek() {
                Token::Word(word) => word != "or" && word != "offset",
                token => *token == Token::Symbol("("),
            };
            if !joined && !follows {
                return Ok(if all.len() == 1 { all.remove(0) } else { LabelFilter::All(all) });
            }
            all.push(self.label_condition()?);
        }
    }

    fn label_condition(&mut self) -> Result<LabelFilter, QueryError> {
        if self.eat("(") {
            let inner = self.label_filter()?;
            self.expect(")")?;
            return Ok(inner);
        }
        let name = self.word("IDENTIFIER")?;
        let op = match self.peek() {
            Token::Symbol(symbol @ ("=" | "==" | "!=" | ">" | ">=" | "<" | "<=" | "=~" | "!~")) => *symbol,
            _ => return Err(self.unexpected("")),
        };
        let is_matcher = matches!(op, "=" | "!=" | "=~" | "!~");
        if is_matcher && matches!(self.token_after(), Token::Text(_)) {
            return self.matcher(name).map(LabelFilter::Match);
        }
        self.take();
        let comparison = match op {
            "=" | "==" => Comparison::Equal,
            "!=" => Comparison::NotEqual,
            ">" => Comparison::Greater,
            ">=" => Comparison::GreaterEqual,
            "<" => Comparison::Less,
            "<=" => Comparison::LessEqual,
            _ => return Err(self.unexpected("STRING")),
        };
        if matches!(op, "=" | "!=") && self.is_call("ip") {
            let negated = op == "!=";
            let pattern = self.ip_pattern()?;
            let shown = format!("{name}{op}ip({})", quote(&pattern));
            check_comparable(&name, &shown)?;
            let matcher = IpMatcher::parse(&pattern).map_err(|message| stage_fault(&format!("| {shown}"), message))?;
            return Ok(LabelFilter::Ip { name, negated, matcher });
        }
        let value = self.quantity()?;
        let filter = LabelFilter::Compare { name: name.clone(), op: comparison, value };
        check_comparable(&name, &filter.to_string())?;
        Ok(filter)
    }

    fn quantity(&mut self) -> Result<Quantity, QueryError> {
        let sign = if self.eat("-") { -1.0 } else { 1.0 };
        let is_signed = sign < 0.0 || self.eat("+");
        let value = match self.peek() {
            Token::Number(text) => {
                let reason = |reason| fault(format!("unable to parse literal as a float: {reason}"));
                Quantity::Number(sign * convert::float(text).map_err(reason)?)
            }
            Token::Duration(ns) if !is_signed => Quantity::DurationNs(*ns),
            Token::Bytes(bytes) if !is_signed => Quantity::Bytes(*bytes),
            _ => return Err(self.unexpected("")),
        };
        self.take();
        Ok(value)
    }

    /// The operator and value behind a name.
    pub(super) fn matcher(&mut self, name: String) -> Result<Matcher, QueryError> {
        let op = match self.peek() {
            Token::Symbol("=") => MatchOp::Equal,
            Token::Symbol("!=") => MatchOp::NotEqual,
            Token::Symbol("=~") => MatchOp::Regex,
            Token::Symbol("!~") => MatchOp::NotRegex,
            _ => return Err(self.unexpected("= or =~ or !~ or !=")),
        };
        self.take();
        let value = self.text()?;
        Matcher::new(name, op, value).map_err(|error| fault(go_regex::fault(&error.pattern, &error.reason)))
    }
}

/// Only texts can be compared with the labels that report an error.
fn check_comparable(name: &str, shown: &str) -> Result<(), QueryError> {
    if !matches!(name, ERROR | ERROR_DETAILS) {
        return Ok(());
    }
    Err(stage_fault(&format!("| {shown}"), format!("{name} is a string label and cannot be compared with {shown}")))
}

/// A regular expression with named captures, each once.
fn capturing(pattern: &str) -> Result<Regex, String> {
    let regex = Regex::new(pattern).map_err(|error| {
        let reason = error.to_string();
        match reason.contains("duplicate capture group name") {
            true => format!("duplicate extracted label name '{}'", duplicate_name(pattern)),
            false => go_regex::fault(pattern, &reason),
        }
    })?;
    if regex.capture_names().flatten().next().is_none() {
        return Err("at least one named capture must be supplied".to_owned());
    }
    Ok(regex)
}

fn duplicate_name(pattern: &str) -> &str {
    let mut names: Vec<&str> = pattern.split('<').skip(1).filter_map(|rest| rest.split('>').next()).collect();
    names.sort_unstable();
    names.windows(2).find(|pair| pair[0] == pair[1]).map_or("", |pair| pair[0])
}
