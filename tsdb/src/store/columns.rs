//! Samples of one series as columns ([`query::Samples`]): appending, cutting, merging.
//!
//! Columns here are strictly rising in time. `starts_ms` is empty where no start time is known.

use std::ops::{Range, RangeInclusive};

use model::{HistogramSample, Sample, stale_marker};
pub use query::Samples;

/// Adds a sample behind all others.
pub fn push_float(into: &mut Samples, sample: Sample, start_ms: i64) {
    push_start(into, start_ms);
    into.timestamps_ms.push(sample.t_ms);
    into.values.push(sample.value);
}

/// Adds a histogram behind all other samples.
pub fn push_histogram(into: &mut Samples, sample: &HistogramSample) {
    push_start(into, sample.start_ms);
    into.histograms.push((into.timestamps_ms.len() as u32, sample.histogram.clone()));
    into.timestamps_ms.push(sample.t_ms);
    into.values.push(if sample.histogram.is_stale() { stale_marker() } else { 0.0 });
}

fn push_start(into: &mut Samples, start_ms: i64) {
    if start_ms != 0 && into.starts_ms.is_empty() {
        into.starts_ms.resize(into.len(), 0);
    }
    if start_ms != 0 || !into.starts_ms.is_empty() {
        into.starts_ms.push(start_ms);
    }
}

/// Takes away the last sample.
pub fn pop(from: &mut Samples) {
    from.timestamps_ms.pop();
    from.values.pop();
    from.starts_ms.pop();
    let left = from.len() as u32;
    if from.histograms.last().is_some_and(|(at, _)| *at == left) {
        from.histograms.pop();
    }
}

/// Adds a range of other columns behind.
pub fn append(into: &mut Samples, from: &Samples, range: Range<usize>) {
    let before = into.len();
    if !from.starts_ms.is_empty() {
        into.starts_ms.resize(before, 0);
        into.starts_ms.extend_from_slice(&from.starts_ms[range.clone()]);
    } else if !into.starts_ms.is_empty() {
        into.starts_ms.resize(before + range.len(), 0);
    }
    if !from.histograms.is_empty() {
        let place = |at: usize| from.histograms.partition_point(|(i, _)| (*i as usize) < at);
        let moved = &from.histograms[place(range.start)..place(range.end)];
        into.histograms.extend(moved.iter().map(|(i, one)| ((*i as usize - range.start + before) as u32, one.clone())));
    }
    into.timestamps_ms.extend_from_slice(&from.timestamps_ms[range.clone()]);
    into.values.extend_from_slice(&from.values[range]);
}

/// Of the samples from place `first` on, keeps those within an inclusive range.
pub fn keep(columns: &mut Samples, first: usize, start_ms: i64, end_ms: i64) {
    let kept = range_of(&columns.timestamps_ms[first..], start_ms..=end_ms);
    let (from, to) = (first + kept.start, first + kept.end);
    if to < columns.len() {
        columns.timestamps_ms.truncate(to);
        columns.values.truncate(to);
        columns.starts_ms.truncate(to);
        columns.histograms.retain(|(at, _)| (*at as usize) < to);
    }
    drop_range(columns, first..from);
}

/// Takes out the samples within an inclusive range.
pub fn remove(columns: &mut Samples, start_ms: i64, end_ms: i64) {
    let range = range_of(&columns.timestamps_ms, start_ms..=end_ms);
    drop_range(columns, range);
}

fn drop_range(columns: &mut Samples, range: Range<usize>) {
    if range.is_empty() {
        return;
    }
    columns.timestamps_ms.drain(range.clone());
    columns.values.drain(range.clone());
    if !columns.starts_ms.is_empty() {
        columns.starts_ms.drain(range.clone());
    }
    columns.histograms.retain_mut(|(at, _)| {
        let i = *at as usize;
        if i >= range.end {
            *at -= range.len() as u32;
        }
        !range.contains(&i)
    });
}

/// From samples in the order they came: sorted by time, of one instant the last.
pub fn from_arrivals(arrived: &Samples) -> Samples {
    let mut order: Vec<usize> = (0..arrived.len()).collect();
    order.sort_by_key(|i| arrived.timestamps_ms[*i]);
    let mut columns = Samples::default();
    columns.timestamps_ms.reserve(order.len());
    columns.values.reserve(order.len());
    for i in order {
        if columns.timestamps_ms.last() == Some(&arrived.timestamps_ms[i]) {
            pop(&mut columns);
        }
        append(&mut columns, arrived, i..i + 1);
    }
    columns
}

/// The samples within an inclusive range.
pub fn slice(columns: &Samples, start_ms: i64, end_ms: i64) -> Samples {
    let mut sliced = Samples::default();
    append(&mut sliced, columns, range_of(&columns.timestamps_ms, start_ms..=end_ms));
    sliced
}

/// Takes in what came later: of one instant the later sample wins.
pub fn merge_later(into: &mut Samples, later: &Samples) {
    let is_after = match (into.timestamps_ms.last(), later.timestamps_ms.first()) {
        (Some(last), Some(first)) => last < first,
        _ => true,
    };
    if is_after {
        return append(into, later, 0..later.len());
    }
    let earlier = std::mem::take(into);
    let (mut i, mut j) = (0, 0);
    while i < earlier.len() && j < later.len() {
        let next_later = later.timestamps_ms[j];
        let run = i + earlier.timestamps_ms[i..].partition_point(|t| *t < next_later);
        append(into, &earlier, i..run);
        i = run + usize::from(earlier.timestamps_ms.get(run) == Some(&next_later));
        let next_earlier = earlier.timestamps_ms.get(i).copied();
        let run = next_earlier.map_or(later.len(), |next| j + later.timestamps_ms[j..].partition_point(|t| *t < next));
        append(into, later, j..run);
        j = run;
    }
    append(into, &earlier, i..earlier.len());
    append(into, later, j..later.len());
}

/// The places of the instants within an inclusive range of a rising column.
pub fn range_of(timestamps_ms: &[i64], range: RangeInclusive<i64>) -> Range<usize> {
    let start = timestamps_ms.partition_point(|t| t < range.start());
    let end = timestamps_ms.partition_point(|t| t <= range.end());
    start..end.max(start)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use model::Histogram;
    use proptest::prelude::*;

    use super::*;

    fn columns(samples: &[(i64, f64)]) -> Samples {
        let (timestamps_ms, values) = samples.iter().copied().unzip();
        Samples { timestamps_ms, values, ..Samples::default() }
    }

    fn check(earlier: &[(i64, f64)], later: &[(i64, f64)], expected: &[(i64, f64)]) {
        let mut merged = columns(earlier);
        merge_later(&mut merged, &columns(later));
        assert_eq!(merged, columns(expected));
    }

    #[test]
    fn of_one_instant_the_later_wins() {
        check(&[(1, 1.0), (2, 2.0)], &[(3, 3.0)], &[(1, 1.0), (2, 2.0), (3, 3.0)]);
        check(&[(1, 1.0), (3, 3.0)], &[(2, 2.0), (3, 30.0)], &[(1, 1.0), (2, 2.0), (3, 30.0)]);
        check(&[(5, 5.0)], &[(1, 1.0)], &[(1, 1.0), (5, 5.0)]);
        check(&[], &[(1, 1.0)], &[(1, 1.0)]);
        let arrived = from_arrivals(&columns(&[(5, 0.0), (1, 1.0), (5, 2.0), (3, 3.0)]));
        assert_eq!(arrived, columns(&[(1, 1.0), (3, 3.0), (5, 2.0)]));
    }

    #[test]
    fn slices_are_inclusive() {
        let all = columns(&[(1, 1.0), (2, 2.0), (3, 3.0)]);
        assert_eq!(slice(&all, 2, 3), columns(&[(2, 2.0), (3, 3.0)]));
        assert!(slice(&all, 4, 2).is_empty());
    }

    /// Time → value, start, and the count of a histogram.
    type Model = BTreeMap<i64, (u64, i64, Option<u64>)>;

    fn arrivals() -> impl Strategy<Value = Vec<(i64, u8, i64, bool)>> {
        prop::collection::vec((0i64..30, any::<u8>(), 0i64..3, any::<bool>()), 0..30)
    }

    fn arrived(samples: &[(i64, u8, i64, bool)]) -> Samples {
        let mut into = Samples::default();
        for (t_ms, value, start_ms, is_histogram) in samples {
            let (t_ms, start_ms) = (*t_ms, *start_ms);
            if *is_histogram {
                let histogram = Arc::new(Histogram { count: f64::from(*value), ..Histogram::default() });
                push_histogram(&mut into, &HistogramSample { t_ms, start_ms, histogram });
            } else {
                push_float(&mut into, Sample { t_ms, value: f64::from(*value) }, start_ms);
            }
        }
        into
    }

    fn model(samples: &[(i64, u8, i64, bool)]) -> Model {
        let bits = |value: u8| f64::from(value).to_bits();
        let one = |(t_ms, value, start_ms, is_histogram): &(i64, u8, i64, bool)| match is_histogram {
            true => (*t_ms, (0, *start_ms, Some(bits(*value)))),
            false => (*t_ms, (bits(*value), *start_ms, None)),
        };
        samples.iter().map(one).collect()
    }

    fn seen(columns: &Samples) -> Model {
        assert!(columns.timestamps_ms.is_sorted_by(|a, b| a < b));
        assert!(columns.starts_ms.is_empty() || columns.starts_ms.len() == columns.len());
        let histogram = |i: usize| columns.histograms.iter().find(|(at, _)| *at as usize == i);
        (0..columns.len())
            .map(|i| {
                let start_ms = columns.starts_ms.get(i).copied().unwrap_or(0);
                let count = histogram(i).map(|(_, one)| one.count.to_bits());
                (columns.timestamps_ms[i], (columns.values[i].to_bits(), start_ms, count))
            })
            .collect()
    }

    proptest! {
        #[test]
        fn columns_are_a_map(a in arrivals(), b in arrivals(), cut in (0i64..30, 0i64..30)) {
            let mut merged = from_arrivals(&arrived(&a));
            merge_later(&mut merged, &from_arrivals(&arrived(&b)));
            let mut expected = model(&a);
            expected.extend(model(&b));
            prop_assert_eq!(seen(&merged), expected.clone());
            let (start_ms, end_ms) = cut;
            let within = |t: &i64| (start_ms..=end_ms).contains(t);
            let (inside, outside): (Model, Model) = expected.into_iter().partition(|(t, _)| within(t));
            let mut kept = merged.clone();
            keep(&mut kept, 0, start_ms, end_ms);
            prop_assert_eq!(seen(&kept), inside.clone());
            prop_assert_eq!(seen(&slice(&merged, start_ms, end_ms)), inside);
            remove(&mut merged, start_ms, end_ms);
            prop_assert_eq!(seen(&merged), outside);
        }
    }
}
