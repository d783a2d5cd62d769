//! Recursive descent over the tokens: selectors and metric expressions; stages are in [`super::stages`].
//!
//! Nesting is limited, so that nothing that walks a tree later can run out of stack.

use model::Matcher;
use template::convert;

use super::LogExpr;
use super::fault;
use super::filter::LabelFilter;
use super::go_regex;
use super::lexer::{Token, tokens};
use super::metric::{MetricExpr, leaf, leaf_index};
use super::pipeline::Pipeline;
use super::range::{Conversion, RangeAggregation, RangeOp, Unwrap};
use super::selector::LogSelector;
use crate::promql::{
    Aggregate, AggregateOp, Binary, BinaryOp, Call, Cardinality, Expr, ExprKind, Grouping, Matching, check_types,
    function,
};
use crate::{QueryError, Span};

const MAX_DEPTH: usize = 100;
pub(super) const MAX_TEXT_BYTES: usize = 128 * 1024;

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
    after: Vec<LabelFilter>,
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

impl Parser {
    pub fn new(text: &str) -> Result<Parser, QueryError> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(fault(format!("input size too long ({} > {MAX_TEXT_BYTES})", text.len())));
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
            if let Some(op) = self.binary_op() {
                return Err(no_number("left", op, &selector));
            }
            if self.word_after_is("unwrap") {
                self.take();
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

    pub(super) fn token_after(&self) -> &Token {
        self.tokens.get(self.at + 1).map_or(&Token::End, |(token, _)| token)
    }

    fn span(&self) -> Span {
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

    pub(super) fn eat(&mut self, symbol: &str) -> bool {
        let found = matches!(self.peek(), Token::Symbol(next) if *next == symbol);
        self.at += usize::from(found);
        found
    }

    pub(super) fn peek_is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Token::Word(next) if next.eq_ignore_ascii_case(word))
    }

    pub(super) fn eat_word(&mut self, word: &str) -> bool {
        let found = self.peek_is_word(word);
        self.at += usize::from(found);
        found
    }

    pub(super) fn next_is(&self, symbol: &str) -> bool {
        matches!(self.token_after(), Token::Symbol(next) if *next == symbol)
    }

    /// Whether a call of this name comes: words that name functions are labels too.
    pub(super) fn is_call(&self, name: &str) -> bool {
        self.peek_is_word(name) && self.next_is("(")
    }

    pub(super) fn unexpected(&self, wanted: &str) -> QueryError {
        let is_call = self.next_is("(") || self.word_after_is("by") || self.word_after_is("without");
        let found = self.peek().describe(is_call);
        let wanted = if wanted.is_empty() { String::new() } else { format!(", expecting {wanted}") };
        self.span().error(format!("syntax error: unexpected {found}{wanted}"))
    }

    pub(super) fn expect(&mut self, symbol: &str) -> Result<(), QueryError> {
        if self.eat(symbol) { Ok(()) } else { Err(self.unexpected(symbol)) }
    }

    fn expect_end(&self) -> Result<(), QueryError> {
        if *self.peek() == Token::End { Ok(()) } else { Err(self.unexpected("")) }
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
            return Err(fault(
                "queries require at least one regexp or equality matcher that does not have an empty-compatible value. \
                 For instance, app=~\".*\" does not meet this requirement, but app=~\".+\" will",
            ));
        }
        let mut selector = LogSelector { matchers, pipeline: Pipeline::default(), span: start };
        self.pipeline(&mut selector.pipeline)?;
        selector.span = start.to(self.last_span());
        Ok(selector)
    }

    /// A range aggregation and nothing else.
    pub fn only_range_aggregation(mut self) -> Result<RangeAggregation, QueryError> {
        let expr = self.expr(0)?;
        self.expect_end()?;
        match (leaf_index(&expr), self.ranges.pop()) {
            (Some(0), Some(range)) => Ok(range),
            _ => Err(expr.span.error("not a log range function")),
        }
    }

    /// `{a="b"}` alone, as endpoints that choose streams take it; it may be empty.
    pub fn only_matchers(mut self) -> Result<Vec<Matcher>, QueryError> {
        let matchers = self.matchers()?;
        self.expect_end().map_err(|_| QueryError::BadData("only label matchers are supported".to_owned()))?;
        Ok(matchers)
    }

    fn matchers(&mut self) -> Result<Vec<Matcher>, QueryError> {
        self.expect("{")?;
        let mut matchers = Vec::new();
        while !self.eat("}") {
            if !matchers.is_empty() && !self.eat(",") {
                return Err(self.unexpected("} or ,"));
            }
            let wanted = if matchers.is_empty() { "IDENTIFIER or }" } else { "IDENTIFIER" };
            let name = self.word(wanted)?;
            matchers.push(self.matcher(name)?);
        }
        Ok(matchers)
    }

    /// Stages up to what is none.
    fn pipeline(&mut self, pipeline: &mut Pipeline) -> Result<(), QueryError> {
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
            if *self.peek() == Token::Symbol("{") {
                let selector = self.log_selector()?;
                return Err(no_number("right", op, &selector));
            }
            let right = self.expr(next)?;
            for (leg, side) in [("left", &left), ("right", &right)] {
                if let (true, Some(value)) = (op.is_set(), literal(side)) {
                    let name = op.as_str();
                    let message = format!(
                        "unexpected literal for {leg} leg of logical/set binary operation ({name}): {value:.6}"
                    );
                    return Err(fault(message));
                }
            }
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
            Token::Symbol(symbol) => (*symbol).to_owned(),
            Token::Word(word) => word.to_ascii_lowercase(),
            _ => return None,
        };
        let op = BinaryOp::ALL.into_iter().find(|op| op.as_str() == name)?;
        match op {
            BinaryOp::Div => Some(BinaryOp::DivNonzero),
            BinaryOp::Mod => Some(BinaryOp::ModNonzero),
            BinaryOp::Atan2 => None,
            op => (!op.is_trim()).then_some(op),
        }
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
                    return Err(fault(format!("no grouping allowed for {:?} operation", op.as_str())));
                }
                matching.cardinality = if left { Cardinality::ManyToOne } else { Cardinality::OneToMany };
                if *self.peek() == Token::Symbol("(") && self.lists_labels() {
                    matching.include = self.label_list()?;
                }
            }
        }
        Ok((returns_bool, matching))
    }

    /// Whether the parenthesis that comes holds names, not an expression.
    fn lists_labels(&self) -> bool {
        match (self.token_after(), self.tokens.get(self.at + 2).map(|(token, _)| token)) {
            (Token::Symbol(")"), _) => true,
            (Token::Word(_), Some(Token::Symbol(symbol))) => matches!(*symbol, ")" | ","),
            _ => false,
        }
    }

    fn label_list(&mut self) -> Result<Vec<String>, QueryError> {
        self.expect("(")?;
        let mut labels = Vec::new();
        while !self.eat(")") {
            if !labels.is_empty() && !self.eat(",") {
                return Err(self.unexpected(") or ,"));
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
        let Token::Number(text) = self.peek() else { return Err(self.unexpected("NUMBER")) };
        let reason = |reason| fault(format!("unable to parse literal as a float: {reason}"));
        let value = convert::float(text).map_err(reason)?;
        self.take();
        Ok(value)
    }

    fn primary(&mut self) -> Result<Expr, QueryError> {
        let span = self.span();
        match self.peek().clone() {
            Token::Number(_) => Ok(Expr { kind: ExprKind::Number { value: self.number()?, is_duration: false }, span }),
            Token::Symbol("(") => {
                self.take();
                let inner = self.expr(0)?;
                self.expect(")")?;
                Ok(Expr { kind: ExprKind::Paren(Box::new(inner)), span: span.to(self.last_span()) })
            }
            Token::Word(name) => self.named(&name.to_ascii_lowercase()),
            _ => Err(self.unexpected("")),
        }
    }

    fn named(&mut self, name: &str) -> Result<Expr, QueryError> {
        if let Some((_, op)) = RangeOp::ALL.into_iter().find(|(known, _)| *known == name) {
            return self.range_aggregation(op);
        }
        if let Some(op) = AGGREGATIONS.into_iter().find(|op| op.as_str() == name) {
            return self.aggregation(op, name);
        }
        match name {
            // Counted to the end: a sketch is not needed.
            "approx_topk" => self.aggregation(AggregateOp::Topk, name),
            "vector" => self.vector(),
            "sort" | "sort_desc" => self.sort(name),
            "label_replace" => self.label_replace(),
            "variants" => Err(fault("multi variant queries are disabled for this instance")),
            _ => Err(self.unexpected("")),
        }
    }

    fn call(&self, name: &str, args: Vec<Expr>, span: Span) -> Expr {
        let function = function(name).unwrap_or_else(|| unreachable!("a PromQL function too"));
        Expr { kind: ExprKind::Call(Call { function, args }), span: span.to(self.last_span()) }
    }

    fn vector(&mut self) -> Result<Expr, QueryError> {
        let span = self.span();
        self.take();
        self.expect("(")?;
        let argument = self.span();
        let value = self.number()?;
        self.expect(")")?;
        Ok(self.call(
            "vector",
            vec![Expr { kind: ExprKind::Number { value, is_duration: false }, span: argument }],
            span,
        ))
    }

    fn sort(&mut self, name: &str) -> Result<Expr, QueryError> {
        let span = self.span();
        self.take();
        let before = self.grouping()?;
        self.expect("(")?;
        let operand = self.expr(0)?;
        self.expect(")")?;
        if before.is_some() || self.grouping()?.is_some() {
            return Err(fault("sort and sort_desc doesn't allow grouping by "));
        }
        Ok(self.call(name, vec![operand], span))
    }

    fn label_replace(&mut self) -> Result<Expr, QueryError> {
        let span = self.span();
        self.take();
        self.expect("(")?;
        let mut args = vec![self.expr(0)?];
        for _ in 0..4 {
            self.expect(",")?;
            let span = self.span();
            args.push(Expr { kind: ExprKind::Text(self.text()?), span });
        }
        self.expect(")")?;
        if let Some(Expr { kind: ExprKind::Text(pattern), .. }) = args.last()
            && let Err(reason) = go_regex::compile(pattern)
        {
            return Err(fault(format!("invalid regex in label_replace: {reason}")));
        }
        Ok(self.call("label_replace", args, span))
    }

    fn grouping(&mut self) -> Result<Option<Grouping>, QueryError> {
        let without = self.eat_word("without");
        if !without && !self.eat_word("by") {
            return Ok(None);
        }
        Ok(Some(Grouping { without, labels: self.label_list()? }))
    }

    /// The `k` of `topk`.
    fn count(&mut self, name: &str) -> Result<Expr, QueryError> {
        let Token::Number(text) = self.peek().clone() else {
            return Err(fault(format!("parameter required for operation {name}")));
        };
        let span = self.span();
        self.take();
        self.expect(",")?;
        match text.parse::<u32>() {
            Ok(0) => Err(fault(format!("invalid parameter (must be greater than 0) {name}({text}"))),
            Ok(count) => Ok(Expr { kind: ExprKind::Number { value: count.into(), is_duration: false }, span }),
            Err(_) => Err(fault(format!("invalid parameter {name}({text},"))),
        }
    }

    fn aggregation(&mut self, op: AggregateOp, name: &str) -> Result<Expr, QueryError> {
        let span = self.span();
        self.take();
        let before = self.grouping()?;
        self.expect("(")?;
        let param = match op.param_type() {
            Some(_) => Some(self.count(name)?),
            None => None,
        };
        if let (None, Token::Number(text), true) = (&param, self.peek().clone(), self.next_is(",")) {
            return Err(fault(format!("unsupported parameter for operation {name}({text},")));
        }
        let operand = self.expr(0)?;
        self.expect(")")?;
        let behind = if before.is_none() { self.grouping()? } else { None };
        let grouping = before.or(behind);
        if name == "approx_topk" && grouping.is_some() {
            return Err(fault("grouping not allowed for approx_topk aggregation"));
        }
        let grouping = grouping.unwrap_or_default();
        // Summing while counting spares a series per distinct label set.
        if let (AggregateOp::Sum, Some(index)) = (op, leaf_index(&operand)) {
            let range = &mut self.ranges[index];
            if range.op.is_additive() {
                range.summed = Some(grouping.clone());
            }
        }
        let aggregate = Aggregate { op, param, operand, grouping };
        Ok(Expr { kind: ExprKind::Aggregate(Box::new(aggregate)), span: span.to(self.last_span()) })
    }

    fn range_aggregation(&mut self, op: RangeOp) -> Result<Expr, QueryError> {
        let (span, name) = (self.span(), op.as_str());
        self.take();
        self.expect("(")?;
        let (mut param, mut counted) = (0.0, String::new());
        match op {
            RangeOp::Quantile if !matches!(self.peek(), Token::Number(_)) => {
                let is_query = matches!(self.peek(), Token::Symbol("{" | "("));
                let missing = || fault(format!("parameter required for operation {name}"));
                return Err(if is_query { missing() } else { self.unexpected("NUMBER or { or (") });
            }
            RangeOp::Quantile => {
                param = self.number()?;
                self.expect(",")?;
            }
            RangeOp::CountDistinct => {
                counted = self.word("IDENTIFIER")?;
                self.expect(",")?;
            }
            _ => {
                if let Token::Number(text) = self.peek() {
                    return Err(fault(format!("parameter {text} not supported for operation {name}")));
                }
            }
        }
        let opened = std::iter::from_fn(|| self.eat("(").then_some(())).count();
        let mut read = LogRange::default();
        let mut selector = self.log_selector()?;
        self.range_parts(&mut selector, &mut read)?;
        for _ in 0..opened {
            self.expect(")")?;
            self.range_parts(&mut selector, &mut read)?;
        }
        let Some(range_ns) = read.range_ns else { return Err(self.unexpected("")) };
        self.expect(")")?;
        let grouping = self.grouping()?;
        let LogRange { offset_ns, unwrap, after, .. } = read;
        let range = RangeAggregation {
            op,
            selector,
            unwrap,
            after,
            range_ns,
            offset_ns,
            grouping,
            param,
            counted,
            summed: None,
        };
        range.check()?;
        self.ranges.push(range);
        Ok(leaf(self.ranges.len() - 1, span.to(self.last_span())))
    }

    /// What may follow a selector within a range aggregation, in any order: stages, the range, the offset.
    fn range_parts(&mut self, selector: &mut LogSelector, read: &mut LogRange) -> Result<(), QueryError> {
        loop {
            let span = self.span();
            if let Token::Range(range_ns) = *self.peek() {
                self.take();
                if read.range_ns.replace(range_ns).is_some() {
                    return Err(span.error("syntax error: unexpected RANGE"));
                }
            } else if self.eat_word("offset") {
                read.offset_ns = self.duration()?;
            } else if *self.peek() == Token::Symbol("|") && self.word_after_is("unwrap") {
                self.at += 2;
                if read.unwrap.replace(self.unwrap_operand()?).is_some() {
                    return Err(span.error("syntax error: unexpected unwrap"));
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
        matches!(self.token_after(), Token::Word(next) if next.eq_ignore_ascii_case(word))
    }

    fn duration(&mut self) -> Result<i64, QueryError> {
        let sign = if self.eat("-") { -1 } else { 1 };
        match *self.peek() {
            Token::Duration(ns) => {
                self.take();
                Ok(sign * ns)
            }
            _ => Err(self.unexpected("DURATION")),
        }
    }

    fn unwrap_operand(&mut self) -> Result<Unwrap, QueryError> {
        let name = self.word("IDENTIFIER or BYTES_CONV or DURATION_CONV or DURATION_SECONDS_CONV")?;
        if *self.peek() != Token::Symbol("(") {
            return Ok(Unwrap { label: name, conversion: Conversion::Float });
        }
        let known = Conversion::ALL.into_iter().find(|(known, _)| *known == name.to_ascii_lowercase());
        let Some((_, conversion)) = known else { return Err(self.unexpected("")) };
        self.take();
        let label = self.word("IDENTIFIER")?;
        self.expect(")")?;
        Ok(Unwrap { label, conversion })
    }
}

/// Lines where an operator needs numbers, in Loki's words.
fn no_number(leg: &str, op: BinaryOp, selector: &LogSelector) -> QueryError {
    let kind = if selector.pipeline.stages.is_empty() { "MatchersExpr" } else { "PipelineExpr" };
    fault(format!("unexpected type for {leg} leg of binary operation ({}): *syntax.{kind}", op.as_str()))
}

/// The value of a number, directly or in parentheses.
fn literal(expr: &Expr) -> Option<f64> {
    match expr.unwrapped().kind {
        ExprKind::Number { value, .. } => Some(value),
        _ => None,
    }
}

fn is_scalar(expr: &Expr) -> bool {
    match &expr.unwrapped().kind {
        ExprKind::Number { .. } => true,
        ExprKind::Binary(binary) => is_scalar(&binary.left) && is_scalar(&binary.right),
        _ => false,
    }
}
