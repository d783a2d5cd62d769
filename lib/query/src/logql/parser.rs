//! Recursive descent over the tokens: selectors and metric expressions; stages are in [`super::stages`].
//!
//! Nesting is limited, so that nothing that walks a tree later can run out of stack.

use model::{MatchOp, Matcher};

use super::filter::Unit;
use super::lexer::{Token, tokens};
use super::metric::{MetricExpr, leaf, leaf_index};
use super::pipeline::Pipeline;
use super::range::{RangeAggregation, RangeOp, Unwrap};
use super::selector::LogSelector;
use super::{LogExpr, filter};
use crate::promql::{
    Aggregate, AggregateOp, Binary, BinaryOp, Call, Cardinality, Expr, ExprKind, Grouping, Matching, ValueType,
    check_types, function, type_of,
};
use crate::{QueryError, Span};

const MAX_DEPTH: usize = 100;
const MAX_TEXT_BYTES: usize = 128 * 1024;

pub(super) struct Parser {
    tokens: Vec<(Token, Span)>,
    at: usize,
    depth: usize,
    ranges: Vec<RangeAggregation>,
}

/// A log query within a range aggregation while it is read.
#[derive(Default)]
struct LogRange {
    range_ns: Option<i64>,
    offset_ns: i64,
    unwrap: Option<Unwrap>,
    after: Vec<filter::LabelFilter>,
}

impl Parser {
    pub fn new(text: &str) -> Result<Parser, QueryError> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(QueryError::BadData(format!(
                "query of {} bytes is over the limit of {MAX_TEXT_BYTES}",
                text.len()
            )));
        }
        Ok(Parser { tokens: tokens(text)?, at: 0, depth: 0, ranges: Vec::new() })
    }

    pub fn query(mut self) -> Result<LogExpr, QueryError> {
        let opened = self.tokens.iter().take_while(|(token, _)| *token == Token::Symbol("(")).count();
        if self.tokens[opened].0 == Token::Symbol("{") {
            self.at = opened;
            let mut selector = self.log_selector()?;
            for _ in 0..opened {
                self.expect(")")?;
                self.pipeline(&mut selector.pipeline)?;
            }
            self.expect_end()?;
            return Ok(LogExpr::Log(selector));
        }
        let expr = self.expr(0)?;
        self.expect_end()?;
        check_types(&expr)?;
        Ok(LogExpr::Metric(MetricExpr { expr, ranges: self.ranges }))
    }

    pub(super) fn peek(&self) -> &Token {
        &self.tokens[self.at].0
    }

    pub(super) fn span(&self) -> Span {
        self.tokens[self.at].1
    }

    fn last_span(&self) -> Span {
        self.tokens[self.at.saturating_sub(1)].1
    }

    pub(super) fn take(&mut self) -> Token {
        let token = self.tokens[self.at].0.clone();
        if token != Token::End {
            self.at += 1;
        }
        token
    }

    pub(super) fn mark(&self) -> usize {
        self.at
    }

    /// Back to a [`Parser::mark`].
    pub(super) fn rewind(&mut self, mark: usize) {
        self.at = mark;
    }

    pub(super) fn eat(&mut self, symbol: &str) -> bool {
        let found = matches!(self.peek(), Token::Symbol(next) if *next == symbol);
        self.at += usize::from(found);
        found
    }

    pub(super) fn eat_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Token::Word(next) if next == word);
        self.at += usize::from(found);
        found
    }

    pub(super) fn next_is(&self, symbol: &str) -> bool {
        matches!(self.tokens.get(self.at + 1), Some((Token::Symbol(next), _)) if *next == symbol)
    }

    pub(super) fn unexpected(&self, wanted: &str) -> QueryError {
        let found = self.peek().describe();
        self.span().error(format!("syntax error: unexpected {found}, expecting {wanted}"))
    }

    pub(super) fn expect(&mut self, symbol: &str) -> Result<(), QueryError> {
        if self.eat(symbol) { Ok(()) } else { Err(self.unexpected(symbol)) }
    }

    fn expect_end(&self) -> Result<(), QueryError> {
        if *self.peek() == Token::End { Ok(()) } else { Err(self.unexpected("$end")) }
    }

    pub(super) fn word(&mut self, wanted: &str) -> Result<String, QueryError> {
        match self.peek() {
            Token::Word(_) => match self.take() {
                Token::Word(word) => Ok(word),
                _ => unreachable!("peeked"),
            },
            _ => Err(self.unexpected(wanted)),
        }
    }

    pub(super) fn text(&mut self) -> Result<String, QueryError> {
        match self.peek() {
            Token::Text(_) => match self.take() {
                Token::Text(text) => Ok(text),
                _ => unreachable!("peeked"),
            },
            _ => Err(self.unexpected("STRING")),
        }
    }

    pub(super) fn deeper(&mut self) -> Result<(), QueryError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(self.span().error("expression is nested too deeply")) } else { Ok(()) }
    }

    pub(super) fn shallower(&mut self) {
        self.depth -= 1;
    }

    /// `{a="b", c=~"d"}` and its pipeline.
    fn log_selector(&mut self) -> Result<LogSelector, QueryError> {
        let start = self.span();
        let matchers = self.matchers()?;
        if matchers.iter().all(Matcher::matches_empty) {
            return Err(start.error(
                "queries require at least one regexp or equality matcher that does not have an empty-compatible value. \
                 For instance, app=~\".*\" does not meet this requirement, but app=~\".+\" will",
            ));
        }
        let mut selector = LogSelector { matchers, pipeline: Pipeline::default(), span: start };
        self.pipeline(&mut selector.pipeline)?;
        selector.span = start.to(self.last_span());
        Ok(selector)
    }

    fn matchers(&mut self) -> Result<Vec<Matcher>, QueryError> {
        self.expect("{")?;
        let mut matchers = Vec::new();
        while !self.eat("}") {
            if !matchers.is_empty() {
                self.expect(",")?;
                if self.eat("}") {
                    break;
                }
            }
            let name = self.word("IDENTIFIER or }")?;
            matchers.push(self.matcher(name)?);
        }
        Ok(matchers)
    }

    /// The operator and value behind a name.
    pub(super) fn matcher(&mut self, name: String) -> Result<Matcher, QueryError> {
        let op = match self.peek() {
            Token::Symbol("=") => MatchOp::Equal,
            Token::Symbol("!=") => MatchOp::NotEqual,
            Token::Symbol("=~") => MatchOp::Regex,
            Token::Symbol("!~") => MatchOp::NotRegex,
            _ => return Err(self.unexpected("= or != or =~ or !~")),
        };
        self.take();
        let span = self.span();
        let value = self.text()?;
        Matcher::new(name, op, value).map_err(|error| span.error(format!("error parsing regexp: {}", error.reason)))
    }

    /// Stages up to what is none.
    pub(super) fn pipeline(&mut self, pipeline: &mut Pipeline) -> Result<(), QueryError> {
        while let Some(stage) = self.stage()? {
            pipeline.stages.push(stage);
        }
        Ok(())
    }

    fn expr(&mut self, min_precedence: u8) -> Result<Expr, QueryError> {
        self.deeper()?;
        let mut left = self.unary()?;
        let mut levels = 1;
        while let Some(op) = self.binary_op().filter(|op| op.precedence() >= min_precedence) {
            self.deeper()?;
            levels += 1;
            let op_span = self.span();
            self.take();
            let (mut returns_bool, matching) = self.modifiers(op)?;
            let next = if op == BinaryOp::Pow { op.precedence() } else { op.precedence() + 1 };
            let right = self.expr(next)?;
            let is_scalar = |side: &Expr| type_of(side) == ValueType::Scalar;
            returns_bool |= op.is_comparison() && is_scalar(&left) && is_scalar(&right);
            let span = left.span.to(right.span);
            left = Expr {
                kind: ExprKind::Binary(Box::new(Binary { op, op_span, left, right, returns_bool, matching })),
                span,
            };
        }
        self.depth -= levels;
        Ok(left)
    }

    fn binary_op(&self) -> Option<BinaryOp> {
        let name = match self.peek() {
            Token::Symbol(symbol) => *symbol,
            Token::Word(word) => word.as_str(),
            _ => return None,
        };
        let allowed = BinaryOp::ALL.into_iter().filter(|op| !op.is_trim() && *op != BinaryOp::Atan2);
        allowed.into_iter().find(|op| op.as_str() == name)
    }

    fn modifiers(&mut self, op: BinaryOp) -> Result<(bool, Matching), QueryError> {
        let returns_bool = self.eat_word("bool");
        let mut matching = Matching::default();
        if op.is_set() {
            matching.cardinality = Cardinality::ManyToMany;
        }
        let on = self.eat_word("on");
        if on || self.eat_word("ignoring") {
            matching.on = on;
            matching.labels = self.label_list()?;
            let left = self.eat_word("group_left");
            if left || self.eat_word("group_right") {
                if op.is_set() {
                    return Err(self.last_span().error(format!("no grouping allowed for {:?} operation", op.as_str())));
                }
                matching.cardinality = if left { Cardinality::ManyToOne } else { Cardinality::OneToMany };
                if *self.peek() == Token::Symbol("(") {
                    matching.include = self.label_list()?;
                }
            }
        }
        Ok((returns_bool, matching))
    }

    fn label_list(&mut self) -> Result<Vec<String>, QueryError> {
        self.expect("(")?;
        let mut labels = Vec::new();
        while !self.eat(")") {
            if !labels.is_empty() {
                self.expect(",")?;
            }
            labels.push(self.word("IDENTIFIER")?);
        }
        Ok(labels)
    }

    fn unary(&mut self) -> Result<Expr, QueryError> {
        let span = self.span();
        let sign = match self.peek() {
            Token::Symbol("-") => -1.0,
            Token::Symbol("+") => 1.0,
            _ => return self.primary(),
        };
        self.take();
        let value = sign * self.number()?;
        Ok(Expr { kind: ExprKind::Number { value, is_duration: false }, span: span.to(self.last_span()) })
    }

    fn number(&mut self) -> Result<f64, QueryError> {
        match *self.peek() {
            Token::Number(value) => {
                self.take();
                Ok(value)
            }
            _ => Err(self.unexpected("NUMBER")),
        }
    }

    fn primary(&mut self) -> Result<Expr, QueryError> {
        let span = self.span();
        match self.peek().clone() {
            Token::Number(value) => {
                self.take();
                Ok(Expr { kind: ExprKind::Number { value, is_duration: false }, span })
            }
            Token::Symbol("(") => {
                self.take();
                let inner = self.expr(0)?;
                self.expect(")")?;
                Ok(Expr { kind: ExprKind::Paren(Box::new(inner)), span: span.to(self.last_span()) })
            }
            Token::Symbol("{") => Err(span.error("unexpected type for binary operation: a log query has no number")),
            Token::Word(name) => self.named(&name),
            _ => Err(self.unexpected("a query")),
        }
    }

    fn named(&mut self, name: &str) -> Result<Expr, QueryError> {
        if let Some((_, op)) = RangeOp::ALL.into_iter().find(|(known, _)| *known == name) {
            return self.range_aggregation(name, op);
        }
        const AGGREGATIONS: [AggregateOp; 9] = [
            AggregateOp::Sum,
            AggregateOp::Avg,
            AggregateOp::Min,
            AggregateOp::Max,
            AggregateOp::Count,
            AggregateOp::Stddev,
            AggregateOp::Stdvar,
            AggregateOp::Topk,
            AggregateOp::Bottomk,
        ];
        if let Some(op) = AGGREGATIONS.into_iter().find(|op| op.as_str() == name) {
            return self.aggregation(op);
        }
        match name {
            "vector" | "sort" | "sort_desc" | "label_replace" => self.call(name),
            "approx_topk" | "variants" => Err(self.span().error(format!("{name} is not supported"))),
            _ => Err(self.unexpected("a query, a function or an aggregation")),
        }
    }

    fn call(&mut self, name: &str) -> Result<Expr, QueryError> {
        let span = self.span();
        self.take();
        let function = function(name).unwrap_or_else(|| unreachable!("a PromQL function too"));
        self.expect("(")?;
        let mut args = Vec::new();
        while !self.eat(")") {
            if !args.is_empty() {
                self.expect(",")?;
            }
            args.push(match self.peek().clone() {
                Token::Text(text) => {
                    self.take();
                    Expr { kind: ExprKind::Text(text), span: self.last_span() }
                }
                _ => self.expr(0)?,
            });
        }
        Ok(Expr { kind: ExprKind::Call(Call { function, args }), span: span.to(self.last_span()) })
    }

    fn grouping(&mut self) -> Result<Option<Grouping>, QueryError> {
        let without = self.eat_word("without");
        if !without && !self.eat_word("by") {
            return Ok(None);
        }
        Ok(Some(Grouping { without, labels: self.label_list()? }))
    }

    fn aggregation(&mut self, op: AggregateOp) -> Result<Expr, QueryError> {
        let span = self.span();
        self.take();
        let before = self.grouping()?;
        self.expect("(")?;
        let param = match op.param_type() {
            Some(_) => {
                let number = self.expr(0)?;
                self.expect(",")?;
                Some(number)
            }
            None => None,
        };
        let operand = self.expr(0)?;
        self.expect(")")?;
        let behind = if before.is_none() { self.grouping()? } else { None };
        let grouping = before.or(behind).unwrap_or_default();
        // Summing while counting spares a series per distinct label set.
        if let (AggregateOp::Sum, Some(index)) = (op, leaf_index(&operand)) {
            let range = &mut self.ranges[index];
            if range.op.is_additive() && range.grouping.is_none() {
                range.grouping = Some(grouping.clone());
            }
        }
        let aggregate = Aggregate { op, param, operand, grouping };
        Ok(Expr { kind: ExprKind::Aggregate(Box::new(aggregate)), span: span.to(self.last_span()) })
    }

    fn range_aggregation(&mut self, name: &str, op: RangeOp) -> Result<Expr, QueryError> {
        let span = self.span();
        self.take();
        self.expect("(")?;
        let param = match op {
            RangeOp::Quantile => {
                let negative = self.eat("-");
                let number = self.number()?;
                self.expect(",")?;
                if negative { -number } else { number }
            }
            _ => 0.0,
        };
        let opened = std::iter::from_fn(|| self.eat("(").then_some(())).count();
        let mut read = LogRange::default();
        let mut selector = self.log_selector()?;
        self.range_parts(&mut selector, &mut read)?;
        for _ in 0..opened {
            self.expect(")")?;
            self.range_parts(&mut selector, &mut read)?;
        }
        let Some(range_ns) = read.range_ns else { return Err(self.unexpected("RANGE")) };
        self.expect(")")?;
        let grouping = self.grouping()?;
        let fault = match (&read.unwrap, &grouping) {
            (None, _) if op.needs_unwrap() => format!("invalid aggregation {name} without unwrap"),
            (Some(_), _) if !op.takes_unwrap() => format!("invalid aggregation {name} with unwrap"),
            (_, Some(_)) if !op.takes_grouping() => format!("grouping not allowed for {name} aggregation"),
            _ => String::new(),
        };
        if !fault.is_empty() {
            return Err(span.error(fault));
        }
        let LogRange { offset_ns, unwrap, after, .. } = read;
        self.ranges.push(RangeAggregation { op, selector, unwrap, after, range_ns, offset_ns, grouping, param });
        Ok(leaf(self.ranges.len() - 1, span.to(self.last_span())))
    }

    /// What may follow a selector within a range aggregation, in any order: stages, the range, the offset.
    fn range_parts(&mut self, selector: &mut LogSelector, read: &mut LogRange) -> Result<(), QueryError> {
        loop {
            let span = self.span();
            if self.eat("[") {
                let range_ns = self.duration()?;
                self.expect("]")?;
                if range_ns <= 0 || read.range_ns.replace(range_ns).is_some() {
                    return Err(span.error("a range is one positive duration"));
                }
            } else if self.eat_word("offset") {
                let sign = if self.eat("-") { -1 } else { 1 };
                read.offset_ns = sign * self.duration()?;
            } else if *self.peek() == Token::Symbol("|") && self.word_after_is("unwrap") {
                self.at += 2;
                if read.unwrap.replace(self.unwrap_operand()?).is_some() {
                    return Err(span.error("unwrap may stand only once"));
                }
            } else if read.unwrap.is_some() && *self.peek() == Token::Symbol("|") {
                self.take();
                read.after.push(self.label_filter()?);
            } else {
                let before = self.at;
                self.pipeline(&mut selector.pipeline)?;
                if self.at == before {
                    return Ok(());
                }
            }
        }
    }

    pub(super) fn word_after_is(&self, word: &str) -> bool {
        matches!(self.tokens.get(self.at + 1), Some((Token::Word(next), _)) if next == word)
    }

    fn duration(&mut self) -> Result<i64, QueryError> {
        match *self.peek() {
            Token::Duration(ns) => {
                self.take();
                Ok(ns)
            }
            Token::Number(0.0) => {
                self.take();
                Ok(0)
            }
            _ => Err(self.unexpected("DURATION")),
        }
    }

    fn unwrap_operand(&mut self) -> Result<Unwrap, QueryError> {
        let name = self.word("IDENTIFIER")?;
        if !self.eat("(") {
            return Ok(Unwrap { label: name, unit: Unit::Number });
        }
        let unit = match name.as_str() {
            "duration" | "duration_seconds" => Unit::Seconds,
            "bytes" => Unit::Bytes,
            _ => {
                return Err(self
                    .last_span()
                    .error(format!("unknown conversion {name}: duration, duration_seconds or bytes")));
            }
        };
        let label = self.word("IDENTIFIER")?;
        self.expect(")")?;
        Ok(Unwrap { label, unit })
    }
}
