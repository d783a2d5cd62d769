//! One language: PromQL with log range functions in it, `sum(rate({app="a"} |= "x" [5m])) / sum(rate(hits_total[5m]))`.
//!
//! The rule: a selector within a range function that is followed by a line filter or a pipeline is a log selector, a bare one
//! is a metric selector. A log range function is LogQL to its closing parenthesis (and `by (…)` behind it); around it all is
//! PromQL. It has a value at the steps of the query and nowhere else, so it cannot stand within a subquery, nor take `[…]`,
//! `offset` or `@` from outside.

use std::time::Instant;

use model::stale_marker;

use crate::engine::Grid;
use crate::logql::{LogEngine, RangeAggregation, parse_range_aggregation, range_function, reads_only_lines};
use crate::promql::{Expr, ExprKind, Shift, VectorSelector, parse, pretty};
use crate::{Answer, Engine, Lines, QueryError, Samples, Series, SeriesSelect, SeriesSet, Span};

/// An expression over metrics and logs.
#[derive(Debug, Clone)]
pub struct MixedExpr {
    /// Log range functions stand in it as selectors of these names.
    expr: Expr,
    ranges: Vec<RangeAggregation>,
}

fn stand_in(index: usize) -> String {
    format!("__logs_{index}__")
}

/// What an expression is evaluated over.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    pub series: &'a dyn Series,
    /// Where this process has logs.
    pub lines: Option<&'a dyn Lines>,
    pub tenant: &'a str,
    pub deadline: Option<Instant>,
}

/// Parses PromQL that may hold log range functions.
pub fn parse_mixed(text: &str) -> Result<MixedExpr, QueryError> {
    let (mut ranges, mut plain) = (Vec::new(), String::new());
    let mut at = 0;
    while let Some(found) = next_log_function(text, at)? {
        let blank = |part: &str| part.chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect::<String>();
        // Everything keeps its place, for the sake of errors.
        let own: String = text[..found.start].bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect();
        ranges.push(parse_range_aggregation(&format!("{own}{}", &text[found.start..found.end]))?);
        let name = stand_in(ranges.len() - 1);
        plain.push_str(&text[at..found.start]);
        plain.push_str(&name);
        plain.push_str(&blank(text.get(found.start + name.len()..found.end).unwrap_or("")));
        at = found.end;
    }
    if ranges.is_empty() {
        return Ok(MixedExpr { expr: parse(text).map_err(|error| explained(text, error))?, ranges });
    }
    plain.push_str(&text[at..]);
    let mixed = MixedExpr { expr: parse(&plain)?, ranges };
    mixed.check()?;
    Ok(mixed)
}

/// A function that only logs have, on a bare selector.
fn explained(text: &str, error: QueryError) -> QueryError {
    let QueryError::Parse { line, column, message } = &error else { return error };
    let Some(name) = message.strip_prefix("unknown function with name ").map(|name| name.trim_matches('"')) else {
        return error;
    };
    if !reads_only_lines(name) || !text.contains('{') {
        return error;
    }
    let message = format!(
        "{message}: it reads log lines, and only a selector with a line filter or a pipeline is one of lines, such as \
         {name}({{…}} |= \"\" [5m])"
    );
    QueryError::Parse { line: *line, column: *column, message }
}

/// Where a log range function stands.
struct Found {
    start: usize,
    end: usize,
}

/// The next function from `at` on whose selector has a line filter or a pipeline.
fn next_log_function(text: &str, at: usize) -> Result<Option<Found>, QueryError> {
    let mut scan = Scan { text, at };
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '.');
    while let Some(c) = scan.peek() {
        if !is_word(c) {
            scan.step();
            continue;
        }
        let start = scan.at;
        scan.at += text[start..].find(|c| !is_word(c)).unwrap_or(text.len() - start);
        if !range_function(&text[start..scan.at]) {
            continue;
        }
        let behind_name = scan.at;
        if scan.selects_lines() {
            let mut scan = Scan { text, at: behind_name };
            let end = scan.call_end().ok_or_else(|| place(text, start).error("unclosed left parenthesis"))?;
            return Ok(Some(Found { start, end }));
        }
        scan.at = behind_name;
    }
    Ok(None)
}

fn place(text: &str, at: usize) -> Span {
    let before = &text[..at];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Span { start: at, end: at, line: before.matches('\n').count() + 1, column: at - line_start + 1 }
}

/// A walk over a text that steps over strings and comments as a whole.
struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl Scan<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    /// One character, or one string, or one comment; strings without end reach to the end.
    fn step(&mut self) {
        let rest = &self.text[self.at..];
        self.at += match self.peek() {
            Some('"' | '\'' | '`') => crate::literal::quoted_len(rest).unwrap_or(rest.len()),
            Some('#') => rest.find('\n').unwrap_or(rest.len()),
            Some(c) => c.len_utf8(),
            None => 0,
        };
    }

    fn skip_blanks(&mut self) {
        while self.peek().is_some_and(|c| c.is_whitespace() || c == '#') {
            self.step();
        }
    }

    /// Whether `({…}` and a line filter or a pipe come: a number or a name and a comma may stand before, parentheses around.
    fn selects_lines(&mut self) -> bool {
        if !self.opens() {
            return false;
        }
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_');
        if self.peek().is_some_and(is_word) {
            while self.peek().is_some_and(is_word) {
                self.step();
            }
            self.skip_blanks();
            if self.peek() != Some(',') {
                return false;
            }
            self.step();
            self.skip_blanks();
        }
        while self.opens() {}
        if self.peek() != Some('{') {
            return false;
        }
        while self.peek().is_some_and(|c| c != '}') {
            self.step();
        }
        self.step();
        self.skip_blanks();
        let rest = &self.text[self.at..];
        rest.starts_with('|') || ["!=", "!~", "!>"].iter().any(|op| rest.starts_with(op))
    }

    /// Takes an opening parenthesis, and the blanks around it, if it comes.
    fn opens(&mut self) -> bool {
        self.skip_blanks();
        let is_open = self.peek() == Some('(');
        if is_open {
            self.step();
            self.skip_blanks();
        }
        is_open
    }

    /// Behind the call whose parenthesis comes, and behind its grouping.
    fn call_end(&mut self) -> Option<usize> {
        self.skip_blanks();
        self.parentheses_end()?;
        let end = self.at;
        self.skip_blanks();
        let rest = self.text[self.at..].to_ascii_lowercase();
        let Some(word) = ["by", "without"].into_iter().find(|word| rest.starts_with(word)) else { return Some(end) };
        self.at += word.len();
        self.skip_blanks();
        match self.peek() {
            Some('(') => self.parentheses_end(),
            _ => Some(end),
        }
    }

    fn parentheses_end(&mut self) -> Option<usize> {
        let mut open = 0;
        loop {
            match self.peek()? {
                '(' => open += 1,
                ')' => open -= 1,
                _ => {}
            }
            self.step();
            if open == 0 {
                return Some(self.at);
            }
        }
    }
}

impl MixedExpr {
    pub fn reads_logs(&self) -> bool {
        !self.ranges.is_empty()
    }

    /// The expression, with a selector for each log range function.
    pub fn expr(&self) -> &Expr {
        &self.expr
    }

    /// The log range function for which a selector stands, if it does.
    pub fn log_range(&self, selector: &VectorSelector) -> Option<&RangeAggregation> {
        self.index_of(selector.name.as_ref()).map(|index| &self.ranges[index])
    }

    /// As people write it, on several lines where it is long.
    pub fn pretty(&self) -> String {
        let mut text = pretty(&self.expr);
        for (index, range) in self.ranges.iter().enumerate() {
            text = text.replace(&stand_in(index), &range.to_string());
        }
        text
    }

    fn index_of(&self, name: Option<&String>) -> Option<usize> {
        (0..self.ranges.len()).find(|index| name.is_some_and(|name| *name == stand_in(*index)))
    }

    fn check(&self) -> Result<(), QueryError> {
        let mut fault = None;
        self.expr.walk(&mut |node| {
            let message = match &node.kind {
                ExprKind::Selector(selector) if self.index_of(selector.name.as_ref()).is_some() => {
                    let is_plain = selector.shift == Shift::default() && selector.matchers.len() == 1;
                    if is_plain { None } else { Some("offset, @ and matchers belong inside of a log range function") }
                }
                ExprKind::Range { selector, .. } if self.index_of(selector.name.as_ref()).is_some() => {
                    Some("a log range function has its range inside")
                }
                ExprKind::Subquery(subquery) => {
                    let mut holds = false;
                    subquery.operand.walk(&mut |node| {
                        if let ExprKind::Selector(selector) = &node.kind {
                            holds |= self.index_of(selector.name.as_ref()).is_some();
                        }
                    });
                    if holds { Some("a log range function cannot stand within a subquery") } else { None }
                }
                _ => None,
            };
            if let (Some(message), None) = (message, &fault) {
                fault = Some(node.span.error(message));
            }
        });
        fault.map_or(Ok(()), Err)
    }

    /// Evaluates at one instant.
    pub fn instant(&self, engine: &Engine, sources: Sources<'_>, t_ms: i64) -> Result<Answer, QueryError> {
        let Sources { tenant, deadline, .. } = sources;
        let both = Both { mixed: self, sources, grid: Grid::instant(t_ms) };
        engine.instant(&both, tenant, &self.expr, t_ms, deadline)
    }

    /// Evaluates at `start_ms`, `start_ms + step_ms`, … up to `end_ms`.
    pub fn range(
        &self,
        engine: &Engine,
        sources: Sources<'_>,
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
    ) -> Result<Answer, QueryError> {
        let Sources { tenant, deadline, .. } = sources;
        let steps = (end_ms.saturating_sub(start_ms).max(0) / step_ms.max(1)) as usize + 1;
        let both = Both { mixed: self, sources, grid: Grid { start_ms, step_ms, steps } };
        engine.range(&both, tenant, &self.expr, start_ms, end_ms, step_ms, deadline)
    }
}

/// Series of the metric store, and log range functions as series that have a sample at every step.
struct Both<'a> {
    mixed: &'a MixedExpr,
    sources: Sources<'a>,
    grid: Grid,
}

impl Series for Both<'_> {
    fn select<'s>(&'s self, request: &SeriesSelect<'_>) -> Result<Box<dyn SeriesSet + 's>, QueryError> {
        let name = request.matchers.iter().find(|matcher| matcher.name == model::METRIC_NAME);
        let Some(index) = self.mixed.index_of(name.map(|matcher| &matcher.value)) else {
            return self.sources.series.select(request);
        };
        let lines = self.sources.lines.ok_or_else(|| {
            QueryError::Execution("there are no logs in this process to read a log range function from".to_owned())
        })?;
        let (tenant, deadline) = (self.sources.tenant, self.sources.deadline);
        let rows = LogEngine::default().leaf(lines, tenant, &self.mixed.ranges[index], self.grid, deadline)?;
        let mut rows: Vec<_> =
            rows.into_iter().map(|(labels, samples)| (labels, self.at_every_step(samples))).collect();
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(Box::new(rows))
    }
}

impl Both<'_> {
    /// A step without a value ends what the step before had.
    fn at_every_step(&self, samples: Samples) -> Samples {
        let mut known = samples.timestamps_ms.iter().zip(&samples.values).peekable();
        let value = |t_ms: i64| match known.next_if(|(known_ms, _)| **known_ms == t_ms) {
            Some((_, value)) => *value,
            None => stale_marker(),
        };
        Samples {
            timestamps_ms: self.grid.times().collect(),
            values: self.grid.times().map(value).collect(),
            ..Samples::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use model::Labels;

    use super::*;
    use crate::{MemoryLines, MemorySeries, Value};

    fn sources() -> (MemorySeries, MemoryLines) {
        let (mut series, mut lines) = (MemorySeries::default(), MemoryLines::default());
        let labels = Labels::from_pairs([("__name__", "hits_total"), ("app", "a")]);
        let stream = Labels::from_pairs([("app", "a")]);
        for i in 0..=10 {
            series.push(&labels, i * 10_000, (i * 100) as f64, None);
            let text = if i % 5 == 0 { "a timeout" } else { "fine" };
            lines.push(&stream, i * 10_000_000_000, text, &Labels::default());
        }
        (series, lines)
    }

    fn check(query: &str, expected: Result<&[&str], &str>) {
        let (series, lines) = sources();
        let sources = Sources { series: &series, lines: Some(&lines), tenant: "t", deadline: None };
        let answer =
            parse_mixed(query).and_then(|expr| expr.range(&Engine::default(), sources, 60_000, 120_000, 30_000));
        let got = answer.map_err(|error| error.to_string()).map(|answer| {
            let Value::Matrix(rows) = answer.value else { panic!("a matrix") };
            let row = |row: &crate::Row| {
                let values = row.values.iter().map(|sample| format!("{}:{}", sample.t_ms / 1000, sample.value));
                format!("{} {}", row.labels, values.collect::<Vec<_>>().join(" "))
            };
            rows.iter().map(row).collect::<Vec<_>>()
        });
        match (got, expected) {
            (Ok(got), Ok(expected)) => assert_eq!(got, expected, "{query}"),
            (Err(got), Err(expected)) => assert!(got.contains(expected), "{query}: {got}"),
            (got, expected) => panic!("{query}: {got:?}, not {expected:?}"),
        }
    }

    #[test]
    fn logs_and_metrics_in_one_expression() {
        check(
            r#"sum(count_over_time({app="a"} |= "timeout" [1m])) / sum(increase(hits_total{app="a"}[1m] offset 30s))"#,
            Ok(&["{} 60:0.0033333333333333335 90:0.0016666666666666668 120:0.0016666666666666668"]),
        );
        check(r#"rate({app="a"} | logfmt | timeout!="" [30s])"#, Ok(&[]));
        // No step takes the value of the one before.
        check(r#"count_over_time({app="a"} |= "timeout" [10s])"#, Ok(&[r#"{app="a"} 60:1"#]).map(|_| &[][..]));
        check(
            "hits_total > 500 and on (app)\n  last_over_time ( {app=\"a\"} | pattern `<x> <y>` | unwrap x | __error__=~\".*\" [1m] ) by (app)",
            Err("pipeline error: 'SampleExtractionErr'"),
        );
        check(
            r#"sum_over_time({app="a"} | label_format n="2" | unwrap n [20s]) without (n)"#,
            Err("grouping not allowed"),
        );
        check(
            r#"max_over_time({app="a"} != "fine" | label_format n="2" | unwrap n [30s]) by (app) * 3"#,
            Ok(&[r#"{app="a"} 60:6 120:6"#]),
        );
        check(r#"count_over_time({app="a", __name__=~".+"}[1m])"#, Ok(&[r#"{app="a"} 60:6 90:6 120:4"#]));
    }

    #[test]
    fn what_does_not_go_together_is_explained() {
        check(r#"bytes_rate({app="a"}[1m])"#, Err("it reads log lines"));
        check(r#"rate({app="a"} |= "x" [1m]) offset 5m"#, Err("belong inside"));
        check(r#"max_over_time(rate({app="a"} |= "x" [1m])[5m:1m])"#, Err("subquery"));
        check(r#"rate({app="a"} |= "x" [1m]"#, Err("1:1: parse error: unclosed left parenthesis"));
        check("sum(\n  rate({app=\"a\"} | nope [1m]))", Err("2:25: parse error: syntax error: unexpected RANGE"));
        check(r#"foo({app="a"} |= "x" [1m])"#, Err("parse error"));
        let (series, _) = sources();
        let sources = Sources { series: &series, lines: None, tenant: "t", deadline: None };
        let expr = parse_mixed(r#"rate({app="a"} |= "x" [1m])"#).expect("parses");
        assert!(expr.reads_logs() && !parse_mixed("rate(hits_total[1m]) != 5").expect("parses").reads_logs());
        let error = expr.instant(&Engine::default(), sources, 0).expect_err("no logs");
        assert!(error.to_string().contains("no logs in this process"), "{error}");
    }

    #[test]
    fn it_is_printed_with_what_counts_lines() {
        let printed = |text: &str| parse_mixed(text).expect("parses").pretty();
        assert_eq!(printed(r#"a/sum(rate({b="c"}|="x"[1m]))"#), r#"a / sum(rate({b="c"} |= "x" [1m]))"#);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "(rate|by|\\{a=\"b\"\\}|\\|= ?\"x\"|\\[5m\\]|[(){}#'\"`,| \n]|é|x){0,14}") {
            let _ = parse_mixed(&text);
        }
    }
}
