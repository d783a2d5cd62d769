//! The lines that a metric expression of LogQL counts at an instant: what the annotations of a log rule show.

use std::ops::ControlFlow;
use std::time::Instant;

use model::{Labels, METRIC_NAME, NS_PER_MS};
use query::logql::{LogEngine, LogQuery, MetricExpr};
use query::{Lines, QueryError};
use rules::LogLine;

/// What is asked: the lines of one element of the expression's answer.
pub struct Wanted<'a> {
    pub tenant: &'a str,
    pub expr: &'a MetricExpr,
    pub labels: &'a Labels,
    pub t_ms: i64,
    pub limit: usize,
    pub deadline: Option<Instant>,
}

/// The newest lines of the expression's latest windows (those of earlier times are only compared with) that have the
/// element's labels. A label that the expression made up (`label_replace`) is no line's: then there are none.
pub fn counted(engine: &LogEngine, lines: &dyn Lines, wanted: &Wanted) -> Result<Vec<LogLine>, QueryError> {
    let ranges = wanted.expr.ranges();
    let Some(offset_ns) = ranges.iter().map(|range| range.offset_ns).min() else { return Ok(Vec::new()) };
    let end_ns = wanted.t_ms * NS_PER_MS - offset_ns + 1;
    let mut found: Vec<LogLine> = Vec::new();
    for range in ranges.iter().filter(|range| range.offset_ns == offset_ns && wanted.limit > 0) {
        let query = LogQuery {
            start_ns: end_ns - range.range_ns,
            end_ns,
            backward: true,
            deadline: wanted.deadline,
            ..LogQuery::new(wanted.tenant, &range.selector)
        };
        let enough = found.len() + wanted.limit;
        engine.visit(lines, &query, &mut |line, processed| {
            if belongs(&processed.labels, wanted.labels) {
                let text = processed.line.into_owned();
                found.push(LogLine { t_ns: line.t_ns, labels: processed.labels, text });
            }
            if found.len() < enough { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
    }
    found.sort_by_key(|line| std::cmp::Reverse(line.t_ns));
    // Two leaves may count the same lines.
    found.dedup();
    found.truncate(wanted.limit);
    Ok(found)
}

fn belongs(line: &Labels, element: &Labels) -> bool {
    element.iter().all(|label| *label.name == *METRIC_NAME || line.get(&label.name) == Some(&*label.value))
}
