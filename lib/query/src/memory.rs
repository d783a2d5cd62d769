//! A store of series in memory: for tests, for scripts, and for whoever has samples at hand.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{Histogram, Labels, is_stale, matches_all, stale_marker};

use crate::{Point, QueryError, Samples, Series, SeriesSelect, SeriesSet, Wants};

/// Series of one tenant; requests of any tenant see them.
#[derive(Debug, Clone, Default)]
pub struct MemorySeries {
    series: BTreeMap<Labels, Samples>,
}

impl MemorySeries {
    /// Adds a sample; a later one of the same instant wins. `start_ms` is when counting began, where that is known.
    pub fn push(&mut self, labels: &Labels, t_ms: i64, value: impl Into<Point>, start_ms: Option<i64>) {
        let (value, histogram) = match value.into() {
            Point::Float(value) => (value, None),
            Point::Histogram(histogram) => {
                (if is_stale(histogram.sum) { stale_marker() } else { histogram.sum }, Some(histogram))
            }
        };
        if !self.series.contains_key(labels) {
            self.series.insert(labels.clone(), Samples::default());
        }
        let Some(samples) = self.series.get_mut(labels) else { unreachable!("it was put there right now") };
        put(samples, t_ms, value, histogram, start_ms);
    }

    pub fn len(&self) -> usize {
        self.series.len()
    }

    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }
}

fn put(samples: &mut Samples, t_ms: i64, value: f64, histogram: Option<Arc<Histogram>>, start_ms: Option<i64>) {
    let place = samples.timestamps_ms.partition_point(|t| *t < t_ms);
    let is_new = samples.timestamps_ms.get(place) != Some(&t_ms);
    if start_ms.is_some() && samples.starts_ms.is_empty() {
        samples.starts_ms.resize(samples.timestamps_ms.len(), 0);
    }
    let has_starts = start_ms.is_some() || !samples.starts_ms.is_empty();
    if is_new {
        samples.timestamps_ms.insert(place, t_ms);
        samples.values.insert(place, value);
        if has_starts {
            samples.starts_ms.insert(place, start_ms.unwrap_or(0));
        }
    } else {
        samples.values[place] = value;
        if has_starts {
            samples.starts_ms[place] = start_ms.unwrap_or(0);
        }
    }
    let at = place as u32;
    let first = samples.histograms.partition_point(|(index, _)| *index < at);
    if !is_new && samples.histograms.get(first).is_some_and(|(index, _)| *index == at) {
        samples.histograms.remove(first);
    }
    if is_new {
        samples.histograms[first..].iter_mut().for_each(|(index, _)| *index += 1);
    }
    if let Some(histogram) = histogram {
        samples.histograms.insert(first, (at, histogram));
    }
}

/// The series that a selector found, and the bounds of what is read of them.
struct Found<'a> {
    rows: Vec<(&'a Labels, &'a Samples)>,
    start_ms: i64,
    end_ms: i64,
    wants: Wants,
}

impl Found<'_> {
    fn bounds(&self, samples: &Samples) -> std::ops::Range<usize> {
        let times = &samples.timestamps_ms;
        let start = times.partition_point(|t| *t < self.start_ms);
        start..times.partition_point(|t| *t <= self.end_ms).max(start)
    }
}

impl SeriesSet for Found<'_> {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn labels(&self, i: usize) -> &Labels {
        self.rows[i].0
    }

    fn read(&self, i: usize, into: &mut Samples) -> Result<(), QueryError> {
        let samples = self.rows[i].1;
        let bounds = self.bounds(samples);
        into.clear();
        into.timestamps_ms.extend_from_slice(&samples.timestamps_ms[bounds.clone()]);
        if self.wants == Wants::Presence {
            // As little as a store may answer, so that scripts notice who looks at more than was wanted.
            let presence = |value: &f64| if is_stale(*value) { *value } else { 0.0 };
            into.values.extend(samples.values[bounds].iter().map(presence));
            return Ok(());
        }
        into.values.extend_from_slice(&samples.values[bounds.clone()]);
        if !samples.starts_ms.is_empty() {
            into.starts_ms.extend_from_slice(&samples.starts_ms[bounds.clone()]);
        }
        let inside = |(index, _): &&(u32, Arc<Histogram>)| bounds.contains(&(*index as usize));
        let shifted =
            |(index, histogram): &(u32, Arc<Histogram>)| (*index - bounds.start as u32, Arc::clone(histogram));
        into.histograms.extend(samples.histograms.iter().filter(inside).map(shifted));
        Ok(())
    }
}

impl Series for MemorySeries {
    fn select<'s>(&'s self, request: &SeriesSelect<'_>) -> Result<Box<dyn SeriesSet + 's>, QueryError> {
        let SeriesSelect { start_ms, end_ms, wants, .. } = *request;
        let mut found = Found { rows: Vec::new(), start_ms, end_ms, wants };
        let matching = self.series.iter().filter(|(labels, _)| matches_all(request.matchers, labels));
        let rows: Vec<_> = matching.filter(|(_, samples)| !found.bounds(samples).is_empty()).collect();
        found.rows = rows;
        Ok(Box::new(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples as `time:value`, histograms in braces, starts behind a slash.
    fn check(pushed: &[(i64, Point, Option<i64>)], expected: &str) {
        let mut store = MemorySeries::default();
        for (t_ms, point, start_ms) in pushed {
            store.push(&Labels::default(), *t_ms, point.clone(), *start_ms);
        }
        let select = |start_ms, end_ms| SeriesSelect {
            tenant: "t",
            matchers: &[],
            start_ms,
            end_ms,
            wants: Default::default(),
            deadline: None,
        };
        let set = store.select(&select(1, 10)).expect("selected");
        let mut samples = Samples::default();
        set.read(0, &mut samples).expect("read");
        let shown = samples.timestamps_ms.iter().enumerate().map(|(i, t_ms)| {
            let value = samples.values[i];
            let is_histogram = samples.histograms.iter().any(|(at, _)| *at as usize == i);
            let shown = if is_histogram { format!("{t_ms}:{{{value}}}") } else { format!("{t_ms}:{value}") };
            samples.starts_ms.get(i).map_or(shown.clone(), |start| format!("{shown}/{start}"))
        });
        assert_eq!(shown.collect::<Vec<_>>().join(" "), expected);
    }

    #[test]
    fn samples_keep_their_kind_wherever_they_are_put() {
        let histogram = |sum: f64| Point::from(Histogram { sum, ..Histogram::default() });
        check(&[(3, 3.0.into(), None), (2, histogram(2.0), None), (1, 1.0.into(), None)], "1:1 2:{2} 3:3");
        check(&[(2, histogram(2.0), None), (2, 5.0.into(), None), (0, histogram(0.0), None)], "2:5");
        check(&[(2, 2.0.into(), None), (0, histogram(0.0), None), (4, histogram(4.0), Some(1))], "2:2/0 4:{4}/1");
    }
}
