//! `histogram_*`: native histograms, and classic ones as groups of series that differ in `le` only.

use std::collections::HashMap;

use model::{Histogram, Labels};

use super::classic::{BLOCK, Blocks};
use super::column::{Column, Grid, is_present};
use super::eval::{Columns, Eval};
use super::math::KahanSum;
use super::notes::{Fixed, Note, Notes};
use super::quantile::{Buckets, native_fraction, native_quantile};
use super::select::Depth;
use crate::literal::go_general;
use crate::promql::{Call, Expr};
use crate::{QueryError, Span};

/// What is asked of a histogram.
#[derive(Debug, Clone, Copy)]
enum Ask {
    Quantile(f64),
    /// Between two bounds.
    Fraction(f64, f64),
}

/// Where annotations point: at the histograms, and at what is asked of them.
#[derive(Clone, Copy)]
struct Places {
    histograms: Span,
    asked: Span,
}

/// A classic histogram: upper bounds, and the columns that count up to them.
struct Classic {
    labels: Labels,
    bounds: Vec<(f64, usize)>,
}

impl Eval<'_> {
    /// `histogram_count` and its kin: a number of every native histogram.
    pub fn of_histograms(&mut self, name: &str, arg: &Expr, grid: Grid) -> Result<Columns, QueryError> {
        let compute: fn(&Histogram) -> f64 = match name {
            "histogram_count" => |histogram| histogram.count,
            "histogram_sum" => |histogram| histogram.sum,
            "histogram_avg" => |histogram| histogram.sum / histogram.count,
            "histogram_stdvar" => variance,
            "histogram_stddev" => |histogram| variance(histogram).sqrt(),
            name => return Err(QueryError::Execution(format!("{name}() is not evaluated"))),
        };
        let depth = if name.starts_with("histogram_std") { Depth::Unknown } else { Depth::Totals };
        let columns = self.deeper(depth, |eval| eval.vector(arg, grid))?;
        let numbers = columns.into_iter().filter(|column| column.histograms.is_some()).map(|column| {
            let mut numbers = Column::empty(column.labels.clone(), grid.steps).without_name();
            for step in 0..grid.steps {
                if let Some(histogram) = column.histogram(step) {
                    numbers.values[step] = compute(histogram);
                }
            }
            numbers
        });
        let numbers = numbers.filter(|column| !column.is_empty()).collect();
        self.joined(numbers, grid).map(Columns::Vector)
    }

    /// `histogram_quantile(q, v)`, `histogram_fraction(lower, upper, v)`, `histogram_quantiles(v, label, q…)`.
    pub fn bucketed(&mut self, call: &Call, grid: Grid) -> Result<Columns, QueryError> {
        let span = |i: usize| call.args[i].unwrapped().span;
        let mut scalar = |i: usize| self.scalar(&call.args[i], grid);
        let mut asks: Vec<(Option<String>, Vec<Ask>)> = Vec::new();
        let quantiles = |values: Vec<f64>| values.into_iter().map(Ask::Quantile).collect();
        let (histograms, places) = match call.function.name {
            "histogram_quantile" => {
                let values = scalar(0)?;
                self.check_quantiles(&values, span(0));
                asks.push((None, quantiles(values)));
                (1, Places { histograms: span(1), asked: span(0) })
            }
            "histogram_fraction" => {
                let bounds = scalar(0)?.into_iter().zip(scalar(1)?);
                asks.push((None, bounds.map(|(lower, upper)| Ask::Fraction(lower, upper)).collect()));
                (2, Places { histograms: span(2), asked: span(0) })
            }
            _ => {
                let label = self.text(&call.args[1], grid)?;
                for i in 2..call.args.len() {
                    let values = self.scalar(&call.args[i], grid)?;
                    self.check_quantiles(&values, span(i));
                    asks.push((Some(label.clone()), quantiles(values)));
                }
                (0, Places { histograms: span(0), asked: span(0) })
            }
        };
        let columns = self.deeper(Depth::Buckets, |eval| eval.vector(&call.args[histograms], grid))?;
        let mut result = Vec::new();
        for (label, asks) in asks {
            // What is wrong with the histograms is said once, not per quantile.
            let mut notes = Notes::default();
            let found = answers(&columns, &asks, grid, places, &mut notes);
            if result.is_empty() {
                self.notes.append(notes);
            }
            self.check_room((result.len() + found.len()) * grid.steps)?;
            match label {
                None => result.extend(found),
                Some(label) => found.into_iter().for_each(|column| labelled(column, &label, &asks, &mut result)),
            }
        }
        result.retain(|column| !column.is_empty());
        self.joined(result, grid).map(Columns::Vector)
    }

    pub fn check_quantiles(&mut self, quantiles: &[f64], span: Span) {
        for wrong in quantiles.iter().filter(|q| !(0.0..=1.0).contains(*q)) {
            self.note(Note::invalid_quantile(*wrong, span));
        }
    }
}

/// Splits a column by the quantile asked for at each step, which stands in a label.
fn labelled(column: Column, label: &str, asks: &[Ask], into: &mut Vec<Column>) {
    let text = |ask: &Ask| match ask {
        Ask::Quantile(q) => with_point(*q),
        Ask::Fraction(..) => unreachable!("only quantiles are labelled"),
    };
    let steps = asks.len();
    let mut from = 0;
    while from < steps {
        let name = text(&asks[from]);
        let past = (from..steps).find(|step| text(&asks[*step]) != name).unwrap_or(steps);
        let mut part = Column::empty(column.labels.with(label, &name), steps).without_name();
        part.values[from..past].copy_from_slice(&column.values[from..past]);
        into.push(part);
        from = past;
    }
}

/// As OpenMetrics writes numbers: whole ones with a point.
fn with_point(value: f64) -> String {
    let text = go_general(value, None);
    if value.is_finite() && !text.contains(['.', 'e']) { text + ".0" } else { text }
}

/// The classic histograms among columns.
fn classics(columns: &[Column], span: Span, notes: &mut Notes) -> (Vec<Classic>, HashMap<Labels, usize>) {
    let mut places: HashMap<Labels, usize> = HashMap::new();
    let mut classics: Vec<Classic> = Vec::new();
    for (i, column) in columns.iter().enumerate() {
        if !column.values.iter().any(|value| is_present(*value)) {
            continue;
        }
        let le = column.labels.get("le").unwrap_or("");
        let Ok(bound) = le.parse::<f64>() else {
            notes.add(Note::bad_bucket_label(column.labels.metric_name().unwrap_or(""), le, span));
            continue;
        };
        let labels = column.labels.without(&["le"]);
        let place = *places.entry(labels.clone()).or_insert(classics.len());
        if place == classics.len() {
            classics.push(Classic { labels, bounds: Vec::new() });
        }
        classics[place].bounds.push((bound, i));
    }
    for classic in &mut classics {
        classic.bounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    (classics, places)
}

/// What is asked of every histogram. Where a native and a classic one of the same labels meet, neither answers.
fn answers(columns: &[Column], asks: &[Ask], grid: Grid, places: Places, notes: &mut Notes) -> Vec<Column> {
    let (classics, by_labels) = classics(columns, places.histograms, notes);
    let mut results = Vec::new();
    let mut hidden: HashMap<usize, Vec<bool>> = HashMap::new();
    for column in columns.iter().filter(|column| column.histograms.is_some()) {
        let metric = column.labels.metric_name().unwrap_or("");
        let rival = by_labels.get(&column.labels).copied();
        let mut result = Column::empty(column.labels.clone(), grid.steps).without_name();
        for (step, ask) in asks.iter().enumerate() {
            let Some(histogram) = column.histogram(step) else { continue };
            let has_rival = |classic: usize| {
                classics[classic].bounds.iter().any(|(_, bucket)| is_present(columns[*bucket].values[step]))
            };
            if let Some(classic) = rival.filter(|classic| has_rival(*classic)) {
                notes.add(Note::mixed_classic_native(metric, places.histograms));
                hidden.entry(classic).or_insert_with(|| vec![false; grid.steps])[step] = true;
                continue;
            }
            result.values[step] = match ask {
                Ask::Quantile(q) => native_quantile(*q, histogram, metric, places.asked, notes),
                Ask::Fraction(lower, upper) => native_fraction(*lower, *upper, histogram, metric, places.asked, notes),
            };
        }
        results.push(result);
    }
    for (i, classic) in classics.into_iter().enumerate() {
        results.push(classic_answers(classic, hidden.get(&i), columns, asks, grid, places, notes));
    }
    results
}

/// What is asked of one classic histogram, but for the steps that are hidden.
fn classic_answers(
    classic: Classic,
    hidden: Option<&Vec<bool>>,
    columns: &[Column],
    asks: &[Ask],
    grid: Grid,
    places: Places,
    notes: &mut Notes,
) -> Column {
    let mut result = Column::empty(classic.labels, grid.steps).without_name();
    let counts: Vec<(f64, &[f64])> =
        classic.bounds.iter().map(|(bound, place)| (*bound, columns[*place].values.as_slice())).collect();
    let is_plain = hidden.is_none()
        && counts.is_sorted_by(|a, b| a.0 < b.0)
        && counts.len() > 1
        && counts.last().is_some_and(|(bound, _)| *bound == f64::INFINITY);
    let mut blocks = is_plain.then(Blocks::default);
    let quantile = |step: usize| match asks[step] {
        Ask::Quantile(q) => q,
        Ask::Fraction(..) => f64::NAN,
    };
    let mut buckets = Buckets::default();
    let mut all_fixed: Option<Fixed> = None;
    let mut gather = |fixed: Option<Fixed>| all_fixed = fixed.into_iter().chain(all_fixed).reduce(Fixed::and);
    for first in (0..grid.steps).step_by(BLOCK) {
        let steps = first..(first + BLOCK).min(grid.steps);
        let computed = blocks.as_mut().and_then(|blocks| blocks.quantiles(&counts, quantile, first, grid));
        if let Some(computed) = computed {
            result.values[steps.clone()].copy_from_slice(&computed.values[..steps.len()]);
            gather(computed.fixed);
            continue;
        }
        for step in steps {
            buckets.fill(&counts, step);
            if buckets.is_empty() || hidden.is_some_and(|hidden| hidden[step]) {
                continue;
            }
            result.values[step] = match asks[step] {
                Ask::Fraction(lower, upper) => buckets.fraction(lower, upper),
                Ask::Quantile(q) => {
                    let (value, fixed) = buckets.quantile(q, grid.time(step));
                    gather(fixed);
                    value
                }
            };
        }
    }
    if let Some(fixed) = all_fixed {
        notes.add(Note::made_monotonic(result.labels.metric_name().unwrap_or(""), fixed, places.histograms));
    }
    result
}

/// Around the mean; a bucket's observations are taken to lie at its middle: the arithmetic one of custom buckets, zero in
/// the zero bucket, else the geometric one.
fn variance(histogram: &Histogram) -> f64 {
    let mean = histogram.sum / histogram.count;
    let mut total = KahanSum::default();
    for bucket in histogram.all_buckets().filter(|bucket| bucket.count != 0.0) {
        let middle = match () {
            () if histogram.uses_custom_buckets() => (bucket.upper + bucket.lower) / 2.0,
            () if bucket.lower <= 0.0 && bucket.upper >= 0.0 => 0.0,
            () if bucket.upper < 0.0 => -(bucket.upper * bucket.lower).sqrt(),
            () => (bucket.upper * bucket.lower).sqrt(),
        };
        total.add(bucket.count * (middle - mean) * (middle - mean));
    }
    (total.sum + total.lost) / histogram.count
}
