//! The series of a range aggregation while lines arrive, in whatever order.

use std::collections::HashMap;
use std::ops::ControlFlow;

use model::Labels;

use super::pipeline::{Processed, Runner};
use super::range::{Limits, Points, RangeAggregation, RangeOp};
use super::row::Fields;
use crate::engine::Grid;
use crate::{LineSelect, Lines, QueryError, SelectedLine, TalliedLines, Visit};

pub(super) struct Collected<'a> {
    range: &'a RangeAggregation,
    limits: &'a Limits,
    places: HashMap<Labels, usize>,
    series: Vec<(Labels, Points)>,
    /// The labels of the line before and the series that they fell in.
    last: Option<(Labels, usize)>,
    samples: usize,
    failure: Option<QueryError>,
    /// Where windows begin and end, rising, where lines are only counted: those between two edges count together.
    edges: Vec<i64>,
    /// The edge of the line before.
    edge: usize,
}

impl<'a> Collected<'a> {
    pub fn new(range: &'a RangeAggregation, limits: &'a Limits, grid: Grid) -> Collected<'a> {
        let (places, series) = Default::default();
        let edges = if range.adds_up() { range.edges(grid) } else { Vec::new() };
        Collected { range, limits, places, series, last: None, samples: 0, failure: None, edges, edge: 0 }
    }

    /// Takes lines until one fails.
    pub fn visitor(&mut self) -> impl FnMut(SelectedLine<'_>) -> Visit + Send {
        let asks_for_errors = self.range.asks_for_errors();
        let mut runner = self.range.selector.pipeline.runner_of(asks_for_errors);
        move |line| {
            let Some(processed) = runner.run(&line) else { return ControlFlow::Continue(()) };
            match self.take(&runner, &line, processed) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    self.failure = Some(error);
                    ControlFlow::Break(())
                }
            }
        }
    }

    /// Takes what a store knows of lines without their texts.
    pub fn tally(&mut self, source: &dyn Lines, request: &LineSelect<'_>) -> Result<(), QueryError> {
        let with_bytes = matches!(self.range.op, RangeOp::Bytes | RangeOp::BytesRate);
        source.tally(request, with_bytes, &mut |lines| match self.take_tallied(&lines) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.failure = Some(error);
                ControlFlow::Break(())
            }
        })
    }

    fn take_tallied(&mut self, lines: &TalliedLines<'_>) -> Result<(), QueryError> {
        let place = self.place(&Fields::of(lines.labels, lines.metadata))?;
        let (mut t_ns, mut bytes) = (lines.t_ns, lines.bytes);
        while let Some(first) = t_ns.first() {
            let edge = self.edge_of(*first);
            // Neighbours mostly rise, and many of them fall between the same edges.
            let is_inside =
                |t: &&i64| edge.checked_sub(1).is_none_or(|before| **t > self.edges[before]) && **t <= self.edges[edge];
            let count = t_ns.iter().take_while(is_inside).count();
            let value = match lines.bytes.is_empty() {
                true => count as f64,
                false => bytes[..count].iter().map(|bytes| f64::from(*bytes)).sum(),
            };
            *self.series[place].1.sums.entry(edge).or_default() += value;
            (t_ns, bytes) = (&t_ns[count..], bytes.get(count..).unwrap_or(&[]));
        }
        Ok(())
    }

    /// The first edge that a time is not behind.
    fn edge_of(&mut self, t_ns: i64) -> usize {
        let is_same = self.edges.get(self.edge).is_some_and(|edge| t_ns <= *edge)
            && self.edge.checked_sub(1).is_none_or(|before| t_ns > self.edges[before]);
        if !is_same {
            self.edge = self.edges.partition_point(|edge| *edge < t_ns).min(self.edges.len() - 1);
        }
        self.edge
    }

    /// Takes what another has collected.
    pub fn join(&mut self, other: Collected<'a>) -> Result<(), QueryError> {
        other.failure.map_or(Ok(()), Err)?;
        self.count(other.samples)?;
        for (labels, mut points) in other.series {
            let place = self.place_of(labels)?;
            let own = &mut self.series[place].1;
            own.t_ns.append(&mut points.t_ns);
            own.values.append(&mut points.values);
            points.sums.into_iter().for_each(|(edge, sum)| *own.sums.entry(edge).or_default() += sum);
        }
        Ok(())
    }

    /// The series; their points are in no order. What lies between two edges is a point at the later one.
    pub fn finish(self) -> Result<Vec<(Labels, Points)>, QueryError> {
        let Collected { failure, mut series, edges, .. } = self;
        for (_, points) in &mut series {
            for (edge, sum) in std::mem::take(&mut points.sums) {
                points.t_ns.push(edges[edge]);
                points.values.push(sum);
            }
        }
        failure.map_or(Ok(series), Err)
    }

    fn count(&mut self, lines: usize) -> Result<(), QueryError> {
        self.samples += lines;
        match self.samples > self.limits.max_samples {
            true => Err(QueryError::Limit("load too many lines into memory in query execution".to_owned())),
            false => Ok(()),
        }
    }

    fn take(
        &mut self,
        runner: &Runner<'_>,
        line: &SelectedLine<'_>,
        processed: Processed<'_>,
    ) -> Result<(), QueryError> {
        let mut value = match self.range.op {
            RangeOp::Bytes | RangeOp::BytesRate => processed.line.len() as f64,
            _ => 1.0,
        };
        let has_number = self.range.unwrap.is_some() || self.range.op == RangeOp::CountDistinct;
        let place = match &self.last {
            Some((last, place)) if !has_number && *last == processed.labels => *place,
            _ => {
                let labels = processed.labels.clone();
                let mut row = runner.row_behind(line, processed);
                if has_number {
                    match self.range.number(&mut row) {
                        Some(number) => value = number,
                        None => return Ok(()),
                    }
                }
                let place = self.place(&row.fields)?;
                self.last = Some((labels, place));
                place
            }
        };
        if self.range.adds_up() {
            let edge = self.edge_of(line.t_ns);
            *self.series[place].1.sums.entry(edge).or_default() += value;
            return Ok(());
        }
        self.count(1)?;
        let points = &mut self.series[place].1;
        points.t_ns.push(line.t_ns);
        points.values.push(value);
        Ok(())
    }

    /// The series of a line with these labels.
    fn place(&mut self, fields: &Fields) -> Result<usize, QueryError> {
        self.place_of(fields.chosen(|field| self.range.keeps(field)))
    }

    fn place_of(&mut self, labels: Labels) -> Result<usize, QueryError> {
        if let Some(place) = self.places.get(&labels) {
            return Ok(*place);
        }
        let limit = self.limits.max_series;
        if self.series.len() >= limit {
            let message = format!(
                "maximum number of series ({limit}) reached for a single query; consider reducing query cardinality by \
                 adding more specific stream selectors, reducing the time range, or aggregating results with functions \
                 like sum(), count() or topk()"
            );
            return Err(QueryError::Refused { limit: "series", message });
        }
        self.places.insert(labels.clone(), self.series.len());
        self.series.push((labels, Points::default()));
        Ok(self.series.len() - 1)
    }
}
