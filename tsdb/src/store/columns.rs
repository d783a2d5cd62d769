//! Samples of one series as two columns.

use std::ops::RangeInclusive;

/// Times and values of one series, strictly rising in time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Columns {
    pub timestamps_ms: Vec<i64>,
    pub values: Vec<f64>,
}

impl Columns {
    pub fn with_capacity(samples: usize) -> Columns {
        Columns { timestamps_ms: Vec::with_capacity(samples), values: Vec::with_capacity(samples) }
    }

    pub fn len(&self) -> usize {
        self.timestamps_ms.len()
    }

    pub fn is_empty(&self) -> bool {
        self.timestamps_ms.is_empty()
    }

    pub fn push(&mut self, t_ms: i64, value: f64) {
        self.timestamps_ms.push(t_ms);
        self.values.push(value);
    }

    /// From samples in the order they came: sorted by time, of one instant the last.
    pub fn from_arrivals(timestamps_ms: &[i64], values: &[f64]) -> Columns {
        let mut order: Vec<usize> = (0..timestamps_ms.len()).collect();
        order.sort_by_key(|i| timestamps_ms[*i]);
        let mut columns = Columns::with_capacity(order.len());
        for i in order {
            columns.push_or_replace(timestamps_ms[i], values[i]);
        }
        columns
    }

    /// Adds a sample at or after the last instant; at the same one it wins.
    fn push_or_replace(&mut self, t_ms: i64, value: f64) {
        match (self.timestamps_ms.last(), self.values.last_mut()) {
            (Some(last), Some(last_value)) if *last == t_ms => *last_value = value,
            _ => self.push(t_ms, value),
        }
    }

    /// The samples within an inclusive range.
    pub fn slice(&self, start_ms: i64, end_ms: i64) -> Columns {
        let range = range_of(&self.timestamps_ms, start_ms..=end_ms);
        Columns { timestamps_ms: self.timestamps_ms[range.clone()].to_vec(), values: self.values[range].to_vec() }
    }

    /// Takes in what came later: of one instant the later sample wins.
    pub fn merge_later(&mut self, later: Columns) {
        let is_after = match (self.timestamps_ms.last(), later.timestamps_ms.first()) {
            (Some(last), Some(first)) => last < first,
            _ => true,
        };
        if is_after {
            if self.is_empty() {
                *self = later;
            } else {
                self.timestamps_ms.extend_from_slice(&later.timestamps_ms);
                self.values.extend_from_slice(&later.values);
            }
            return;
        }
        let earlier = std::mem::replace(self, Columns::with_capacity(self.len() + later.len()));
        let (mut i, mut j) = (0, 0);
        while i < earlier.len() || j < later.len() {
            let takes_later = match (earlier.timestamps_ms.get(i), later.timestamps_ms.get(j)) {
                (Some(a), Some(b)) => b <= a,
                (None, _) => true,
                (_, None) => false,
            };
            if takes_later {
                i += usize::from(earlier.timestamps_ms.get(i) == Some(&later.timestamps_ms[j]));
                self.push(later.timestamps_ms[j], later.values[j]);
                j += 1;
            } else {
                self.push(earlier.timestamps_ms[i], earlier.values[i]);
                i += 1;
            }
        }
    }
}

/// The places of the instants within an inclusive range of a rising column.
pub fn range_of(timestamps_ms: &[i64], range: RangeInclusive<i64>) -> std::ops::Range<usize> {
    let start = timestamps_ms.partition_point(|t| t < range.start());
    let end = timestamps_ms.partition_point(|t| t <= range.end());
    start..end.max(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(samples: &[(i64, f64)]) -> Columns {
        let (timestamps_ms, values) = samples.iter().copied().unzip();
        Columns { timestamps_ms, values }
    }

    fn check(earlier: &[(i64, f64)], later: &[(i64, f64)], expected: &[(i64, f64)]) {
        let mut merged = columns(earlier);
        merged.merge_later(columns(later));
        assert_eq!(merged, columns(expected));
    }

    #[test]
    fn of_one_instant_the_later_wins() {
        check(&[(1, 1.0), (2, 2.0)], &[(3, 3.0)], &[(1, 1.0), (2, 2.0), (3, 3.0)]);
        check(&[(1, 1.0), (3, 3.0)], &[(2, 2.0), (3, 30.0)], &[(1, 1.0), (2, 2.0), (3, 30.0)]);
        check(&[(5, 5.0)], &[(1, 1.0)], &[(1, 1.0), (5, 5.0)]);
        check(&[], &[(1, 1.0)], &[(1, 1.0)]);
        let arrived = Columns::from_arrivals(&[5, 1, 5, 3], &[0.0, 1.0, 2.0, 3.0]);
        assert_eq!(arrived, columns(&[(1, 1.0), (3, 3.0), (5, 2.0)]));
    }

    #[test]
    fn slices_are_inclusive() {
        let all = columns(&[(1, 1.0), (2, 2.0), (3, 3.0)]);
        assert_eq!(all.slice(2, 3), columns(&[(2, 2.0), (3, 3.0)]));
        assert!(all.slice(4, 2).is_empty());
    }
}
