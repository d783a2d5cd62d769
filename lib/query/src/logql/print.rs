//! Prints queries so that parsing what was printed gives the same query: on one line, or, where that is long, over several.

use std::fmt::{self, Display, Formatter};

use model::{MatchOp, Matcher, format_duration};
use template::convert::go_duration;

use super::LogExpr;
use super::filter::{LabelFilter, LineFilter, LineOp, LineTest, Quantity};
use super::metric::{MetricExpr, leaf_index};
use super::pipeline::{Chosen, LabelSource, Stage};
use super::range::{Conversion, RangeAggregation, RangeOp};
use super::selector::LogSelector;
use crate::literal::{format_number, quote};
use crate::promql::{Binary, Cardinality, Expr, ExprKind, Grouping};

/// What a line may hold before it is split.
const MAX_LINE_CHARS: usize = 100;

struct Commas<'a, T>(&'a [T]);

impl<T: Display> Display for Commas<'_, T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (i, item) in self.0.iter().enumerate() {
            write!(f, "{}{item}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

struct Condition<'a>(&'a Matcher);

impl Display for Condition<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Matcher { name, op, value, .. } = self.0;
        let op = match op {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex => "=~",
            MatchOp::NotRegex => "!~",
        };
        write!(f, "{name}{op}{}", quote(value))
    }
}

impl Display for LineFilter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.op, self.negated) {
            (LineOp::Contains, false) => "|=",
            (LineOp::Contains, true) => "!=",
            (LineOp::Regex, false) => "|~",
            (LineOp::Regex, true) => "!~",
            (LineOp::Pattern, false) => "|>",
            (LineOp::Pattern, true) => "!>",
        })?;
        for (i, test) in self.any.iter().enumerate() {
            f.write_str(if i == 0 { " " } else { " or " })?;
            match test {
                LineTest::Contains(text) | LineTest::Regex(text, _) | LineTest::Pattern(text, _) => {
                    f.write_str(&quote(text))?;
                }
                LineTest::Ip(matcher) => write!(f, "ip({})", quote(&matcher.pattern))?,
            }
        }
        Ok(())
    }
}

impl Display for LabelFilter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let joined = |f: &mut Formatter<'_>, filters: &[LabelFilter], word: &str| {
            f.write_str("( ")?;
            for (i, filter) in filters.iter().enumerate() {
                write!(f, "{}{filter}", if i == 0 { "" } else { word })?;
            }
            f.write_str(" )")
        };
        match self {
            LabelFilter::Match(matcher) => Condition(matcher).fmt(f),
            LabelFilter::All(filters) => joined(f, filters, " , "),
            LabelFilter::Any(filters) => joined(f, filters, " or "),
            LabelFilter::Ip { name, negated, matcher } => {
                let op = if *negated { "!=" } else { "=" };
                write!(f, "{name}{op}ip({})", quote(&matcher.pattern))
            }
            LabelFilter::Compare { name, op, value } => {
                write!(f, "{name}{}", op.as_str())?;
                match value {
                    Quantity::Number(number) => write!(f, "{number}"),
                    Quantity::DurationNs(ns) => f.write_str(&go_duration(*ns)),
                    Quantity::Bytes(bytes) => write!(f, "{bytes}B"),
                }
            }
        }
    }
}

impl Display for Chosen {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Chosen::Name(name) => f.write_str(name),
            Chosen::Match(matcher) => Condition(matcher).fmt(f),
        }
    }
}

/// `name="text"`.
struct Extraction<'a>(&'a str, &'a str);

impl Display for Extraction<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.0, quote(self.1))
    }
}

impl Display for Stage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Stage::Line(filter) => filter.fmt(f),
            Stage::Label(filter) => write!(f, "| {filter}"),
            Stage::Json(paths) if paths.is_empty() => f.write_str("| json"),
            Stage::Json(paths) => {
                let paths: Vec<_> = paths.iter().map(|(name, text, _)| Extraction(name, text)).collect();
                write!(f, "| json {}", Commas(&paths))
            }
            Stage::Logfmt { strict, keep_empty, fields } => {
                let strict = if *strict { " --strict" } else { "" };
                let keep_empty = if *keep_empty { " --keep-empty" } else { "" };
                let fields: Vec<_> = fields.iter().map(|(name, text)| Extraction(name, text)).collect();
                let blank = if fields.is_empty() { "" } else { " " };
                write!(f, "| logfmt{strict}{keep_empty}{blank}{}", Commas(&fields))
            }
            Stage::Regexp(text, _) => write!(f, "| regexp {}", quote(text)),
            Stage::Pattern(text, _) => write!(f, "| pattern {}", quote(text)),
            Stage::Unpack => f.write_str("| unpack"),
            Stage::Decolorize(_) => f.write_str("| decolorize"),
            Stage::LineFormat(template) => write!(f, "| line_format {}", quote(&template.text)),
            Stage::LabelFormat(formats) => {
                f.write_str("| label_format ")?;
                for (i, (target, source)) in formats.iter().enumerate() {
                    f.write_str(if i == 0 { "" } else { ", " })?;
                    match source {
                        LabelSource::Rename(from) => write!(f, "{target}={from}")?,
                        LabelSource::Template(template) => write!(f, "{target}={}", quote(&template.text))?,
                    }
                }
                Ok(())
            }
            Stage::Drop(chosen) => write!(f, "| drop {}", Commas(chosen)),
            Stage::Keep(chosen) => write!(f, "| keep {}", Commas(chosen)),
        }
    }
}

impl Display for LogSelector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let matchers: Vec<_> = self.matchers.iter().map(Condition).collect();
        write!(f, "{{{}}}", Commas(&matchers))?;
        self.pipeline.stages.iter().try_for_each(|stage| write!(f, " {stage}"))
    }
}

impl Display for Grouping {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", if self.without { "without" } else { "by" }, Commas(&self.labels))
    }
}

impl RangeAggregation {
    /// What stands behind the pipeline: `| unwrap x | y > 1 [5m] offset 1h`.
    fn tail(&self) -> String {
        let mut tail = String::new();
        if let Some(unwrap) = &self.unwrap {
            let conversion = Conversion::ALL.into_iter().find(|(_, known)| *known == unwrap.conversion);
            match conversion {
                Some((name, _)) => tail = format!(" | unwrap {name}({})", unwrap.label),
                None => tail = format!(" | unwrap {}", unwrap.label),
            }

            self.after.iter().for_each(|filter| tail += &format!(" | {filter}"));
        }
        tail += &format!(" [{}]", format_duration(self.range_ns / 1_000_000));
        if self.offset_ns != 0 {
            tail += &format!(" offset {}", go_duration(self.offset_ns));
        }
        tail
    }

    /// The function and its first argument, where there is one.
    fn head(&self) -> String {
        let name = self.op.as_str();
        match self.op {
            RangeOp::Quantile => format!("{name}({}, ", self.param),
            RangeOp::CountDistinct => format!("{name}({}, ", self.counted),
            _ => format!("{name}("),
        }
    }

    fn foot(&self) -> String {
        self.grouping.as_ref().map_or(String::new(), |grouping| format!(" {grouping}"))
    }
}

impl Display for RangeAggregation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}){}", self.head(), self.selector, self.tail(), self.foot())
    }
}

/// The operator with what stands between the operands.
fn operator(binary: &Binary) -> String {
    let mut text = binary.op.as_str().to_owned();
    if binary.returns_bool && !is_literal(&binary.left, &binary.right) {
        text += " bool";
    }
    let matching = &binary.matching;
    if matching.on || !matching.labels.is_empty() {
        text += &format!(" {} ({})", if matching.on { "on" } else { "ignoring" }, Commas(&matching.labels));
        let group = match matching.cardinality {
            Cardinality::ManyToOne => " group_left",
            Cardinality::OneToMany => " group_right",
            _ => return text,
        };
        text += &format!("{group} ({})", Commas(&matching.include));
    }
    text
}

/// Numbers are compared to a number without being asked.
fn is_literal(left: &Expr, right: &Expr) -> bool {
    let is_number = |expr: &Expr| matches!(expr.unwrapped().kind, ExprKind::Number { .. });
    is_number(left) && is_number(right)
}

impl MetricExpr {
    fn print(&self, expr: &Expr) -> String {
        if let (Some(index), ExprKind::Selector(_)) = (leaf_index(expr), &expr.kind) {
            return self.ranges[index].to_string();
        }
        match &expr.kind {
            ExprKind::Number { value, .. } => format_number(*value),
            ExprKind::Text(text) => quote(text),
            ExprKind::Paren(inner) => format!("({})", self.print(inner)),
            ExprKind::Binary(binary) => {
                format!("{} {} {}", self.print(&binary.left), operator(binary), self.print(&binary.right))
            }
            ExprKind::Aggregate(aggregate) => {
                let param = aggregate.param.as_ref().map_or(String::new(), |param| format!("{}, ", self.print(param)));
                let operand = self.print(&aggregate.operand);
                format!("{}({param}{operand})", self.aggregation_head(expr))
            }
            ExprKind::Call(call) => {
                let args: Vec<String> = call.args.iter().map(|arg| self.print(arg)).collect();
                format!("{}({})", call.function.name, Commas(&args))
            }
            _ => unreachable!("LogQL has no such node"),
        }
    }

    /// `sum by (a)`.
    fn aggregation_head(&self, expr: &Expr) -> String {
        let ExprKind::Aggregate(aggregate) = &expr.kind else { return String::new() };
        let name = aggregate.op.as_str();
        match aggregate.grouping.labels.is_empty() && !aggregate.grouping.without {
            true => name.to_owned(),
            false => format!("{name} {} ", aggregate.grouping),
        }
    }

    fn pretty(&self, expr: &Expr, level: usize, out: &mut String) {
        let line = self.print(expr);
        if line.chars().count() + 2 * level <= MAX_LINE_CHARS {
            return push_line(out, level, &line);
        }
        if let (Some(index), ExprKind::Selector(_)) = (leaf_index(expr), &expr.kind) {
            let range = &self.ranges[index];
            push_line(out, level, range.head().trim_end());
            pretty_selector(&range.selector, range.tail().trim_start(), level + 1, out);
            return push_line(out, level, &format!("){}", range.foot()));
        }
        match &expr.kind {
            ExprKind::Paren(inner) => {
                push_line(out, level, "(");
                self.pretty(inner, level + 1, out);
                push_line(out, level, ")");
            }
            ExprKind::Binary(binary) => {
                self.pretty(&binary.left, level + 1, out);
                push_line(out, level, &operator(binary));
                self.pretty(&binary.right, level + 1, out);
            }
            ExprKind::Aggregate(aggregate) => {
                push_line(out, level, &format!("{}(", self.aggregation_head(expr)));
                if let Some(param) = &aggregate.param {
                    push_line(out, level + 1, &format!("{},", self.print(param)));
                }
                self.pretty(&aggregate.operand, level + 1, out);
                push_line(out, level, ")");
            }
            ExprKind::Call(call) => {
                push_line(out, level, &format!("{}(", call.function.name));
                for (i, arg) in call.args.iter().enumerate() {
                    self.pretty(arg, level + 1, out);
                    if i + 1 < call.args.len() {
                        out.push(',');
                    }
                }
                push_line(out, level, ")");
            }
            _ => push_line(out, level, &line),
        }
    }
}

fn push_line(out: &mut String, level: usize, line: &str) {
    if !out.is_empty() {
        out.push('\n');
    }
    out.extend(std::iter::repeat_n("  ", level));
    out.push_str(line);
}

/// Matchers, then a stage on each line; `tail` is what a range aggregation puts behind them.
fn pretty_selector(selector: &LogSelector, tail: &str, level: usize, out: &mut String) {
    let matchers: Vec<_> = selector.matchers.iter().map(Condition).collect();
    push_line(out, level, &format!("{{{}}}", Commas(&matchers)));
    for stage in &selector.pipeline.stages {
        push_line(out, level + 1, &stage.to_string());
    }
    if !tail.is_empty() {
        push_line(out, level + 1, tail);
    }
}

impl Display for LogExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            LogExpr::Log(selector) => selector.fmt(f),
            LogExpr::Metric(metric) => f.write_str(&metric.print(&metric.expr)),
        }
    }
}

impl LogExpr {
    /// Over several lines where one would be long.
    pub fn pretty(&self) -> String {
        let mut out = String::new();
        match self {
            LogExpr::Log(selector) => {
                let line = selector.to_string();
                match line.chars().count() > MAX_LINE_CHARS {
                    true => pretty_selector(selector, "", 0, &mut out),
                    false => out = line,
                }
            }
            LogExpr::Metric(metric) => metric.pretty(&metric.expr, 0, &mut out),
        }
        out
    }
}
