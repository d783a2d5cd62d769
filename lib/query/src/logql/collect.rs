//! The series of a range aggregation while lines arrive, in whatever order.

use std::collections::HashMap;
use std::ops::ControlFlow;

use model::Labels;

use super::pipeline::{Processed, Runner};
use super::range::{Limits, Points, RangeAggregation, RangeOp};
use super::row::Fields;
use crate::{Edges, LineSelect, Lines, QueryError, SelectedLine, Tally, Visit};

pub(super) struct Collected<'a> {
    range: &'a RangeAggregation,
    limits: &'a Limits,
    places: HashMap<Labels, usize>,
    series: Vec<(Labels, Points)>,
    /// The labels of the line before and the series that they fell in.
    last: Option<(Labels, usize)>,
    samples: usize,
    failure: Option<QueryError>,
    /// Where windows begin and end, where lines are only counted: those between two edges count together.
    edges: Edges<'a>,
    /// Series by the addresses of labels and metadata, which stay theirs as long as they are held here.
    tallied: HashMap<(usize, usize), (Labels, Labels, usize)>,
}

/// Pairs of labels and metadata whose series are remembered.
const MAX_KNOWN: usize = 4096;

impl<'a> Collected<'a> {
    /// `at_ns` is where windows begin and end, rising, if lines are only counted.
    pub fn new(range: &'a RangeAggregation, limits: &'a Limits, at_ns: &'a [i64]) -> Collected<'a> {
        let (places, series, tallied) = Default::default();
        let edges = Edges::new(at_ns);
        Collected { range, limits, places, series, last: None, samples: 0, failure: None, edges, tallied }
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
        source.tally(request, self.edges.at_ns(), with_bytes, &mut |tally| match self.take_tally(&tally, with_bytes) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.failure = Some(error);
                ControlFlow::Break(())
            }
        })
    }

    fn take_tally(&mut self, tally: &Tally<'_>, with_bytes: bool) -> Result<(), QueryError> {
        let addresses = (tally.labels.address(), tally.metadata.address());
        let place = match self.tallied.get(&addresses) {
            Some((.., place)) => *place,
            None => {
                let place = self.place(&Fields::of(tally.labels, tally.metadata))?;
                if self.tallied.len() >= MAX_KNOWN {
                    self.tallied.clear();
                }
                self.tallied.insert(addresses, (tally.labels.clone(), tally.metadata.clone(), place));
                place
            }
        };
        let value = if with_bytes { tally.bytes } else { tally.lines } as f64;
        *self.series[place].1.sums.entry(tally.edge).or_default() += value;
        Ok(())
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
                // No request reaches behind the last edge.
                let Some(t_ns) = edges.at_ns().get(edge) else { continue };
                points.t_ns.push(*t_ns);
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
            let edge = self.edges.of(line.t_ns);
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
