//! Totals of series that send only what was added (delta temporality), so that they read like every other counter.
//!
//! # Contracts
//! - A total starts with the first point seen, whose start becomes the series' start time; points add in rising time, and
//!   one that is not newer than the last is refused: it was added before, or came too late.
//! - Totals change with what is acknowledged, and only then: a request works on [`Changes`] and applies them after the bus
//!   has its samples. Sent again after a failure, it gives the same samples.
//! - They are in memory: a restart is a counter reset with a later start time, which `rate` and `increase` understand.
//! - No more than [`MAX_SERIES`]; when they are full those that were silent for an hour go, and a new one is refused.

use std::collections::HashMap;

use model::{Histogram, Labels};

/// Series whose totals are kept.
const MAX_SERIES: usize = 1_000_000;
/// How long a silent series keeps its total when room is needed.
const PATIENCE_MS: i64 = 3_600_000;

/// What has been counted.
#[derive(Debug, Clone, PartialEq)]
pub enum Total {
    Number(f64),
    Explicit { bounds: Vec<f64>, counts: Vec<u64>, count: u64, sum: Option<f64> },
    Native(Histogram),
}

impl Total {
    /// Adds, if both are of a kind and have the same buckets.
    fn add(&mut self, other: &Total) -> bool {
        match (self, other) {
            (Total::Number(total), Total::Number(more)) => *total += more,
            (
                Total::Explicit { bounds, counts, count, sum },
                Total::Explicit { bounds: same_bounds, counts: more, count: more_count, sum: more_sum },
            ) if bounds == same_bounds && counts.len() == more.len() => {
                for (total, more) in counts.iter_mut().zip(more) {
                    *total = total.saturating_add(*more);
                }
                *count = count.saturating_add(*more_count);
                *sum = sum.zip(*more_sum).map(|(total, more)| total + more);
            }
            (Total::Native(total), Total::Native(more)) => return total.add(more).is_ok(),
            (Total::Number(_) | Total::Explicit { .. } | Total::Native(_), _) => return false,
        }
        true
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Running {
    pub start_ms: i64,
    last_ms: i64,
    pub total: Total,
}

/// All totals, by tenant and series.
#[derive(Debug, Default)]
pub struct Deltas {
    tenants: HashMap<String, HashMap<Labels, Running>>,
    series: usize,
}

impl Deltas {
    pub fn series(&self) -> usize {
        self.series
    }

    /// Lets go of silent series when there is no more room.
    pub fn make_room(&mut self, now_ms: i64) {
        if self.series < MAX_SERIES {
            return;
        }
        for running in self.tenants.values_mut() {
            running.retain(|_, one| one.last_ms >= now_ms.saturating_sub(PATIENCE_MS));
        }
        self.tenants.retain(|_, running| !running.is_empty());
        self.series = self.tenants.values().map(HashMap::len).sum();
    }

    pub fn apply(&mut self, tenant: &str, changed: HashMap<Labels, Running>) {
        let running = self.tenants.entry(tenant.to_owned()).or_default();
        let before = running.len();
        running.extend(changed);
        self.series += running.len() - before;
    }
}

/// What one request does to the totals.
pub struct Changes<'a> {
    known: Option<&'a HashMap<Labels, Running>>,
    room: usize,
    pub changed: HashMap<Labels, Running>,
}

impl<'a> Changes<'a> {
    pub fn new(deltas: &'a Deltas, tenant: &str) -> Changes<'a> {
        let room = MAX_SERIES.saturating_sub(deltas.series);
        Changes { known: deltas.tenants.get(tenant), room, changed: HashMap::new() }
    }

    /// Adds a point to its series and answers the total, or why it cannot.
    pub fn add(&mut self, labels: &Labels, start_ms: i64, t_ms: i64, more: Total) -> Result<&Running, &'static str> {
        let known = self.changed.get(labels).or_else(|| self.known.and_then(|known| known.get(labels)));
        let next = match known {
            None => {
                self.room = self.room.checked_sub(1).ok_or("too many series with delta temporality")?;
                begin(start_ms, t_ms, more)
            }
            Some(running) if t_ms <= running.last_ms => return Err("a delta that is not newer than the one before it"),
            Some(running) => {
                let mut next = Running { last_ms: t_ms, ..running.clone() };
                // Other buckets than before: it counts anew.
                if next.total.add(&more) { next } else { begin(start_ms.max(running.last_ms), t_ms, more) }
            }
        };
        Ok(self.changed.entry(labels.clone()).insert_entry(next).into_mut())
    }
}

fn begin(start_ms: i64, t_ms: i64, total: Total) -> Running {
    Running { start_ms, last_ms: t_ms, total }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(changes: &mut Changes<'_>, series: &str, t_ms: i64, more: f64, expected: Result<(i64, f64), &str>) {
        let labels = Labels::from_pairs([("a", series)]);
        match (changes.add(&labels, t_ms - 10, t_ms, Total::Number(more)), expected) {
            (Ok(running), Ok((start_ms, total))) => {
                assert_eq!((running.start_ms, &running.total), (start_ms, &Total::Number(total)));
            }
            (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
            (got, expected) => panic!("{got:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn deltas_add_up_once_they_are_acknowledged() {
        let mut deltas = Deltas::default();
        let mut first = Changes::new(&deltas, "t");
        check(&mut first, "x", 100, 1.0, Ok((90, 1.0)));
        check(&mut first, "x", 110, 2.0, Ok((90, 3.0)));
        check(&mut first, "x", 110, 2.0, Err("not newer"));
        check(&mut first, "y", 110, 2.0, Ok((100, 2.0)));
        // Not acknowledged: the same again.
        let mut again = Changes::new(&deltas, "t");
        check(&mut again, "x", 100, 1.0, Ok((90, 1.0)));
        let changed = again.changed;
        deltas.apply("t", changed);
        let mut next = Changes::new(&deltas, "t");
        check(&mut next, "x", 120, 4.0, Ok((90, 5.0)));
        let mut other = Changes::new(&deltas, "other");
        check(&mut other, "x", 100, 1.0, Ok((90, 1.0)));
        assert_eq!(deltas.series(), 1);
    }

    #[test]
    fn there_is_a_bound_and_other_buckets_begin_anew() {
        let mut deltas = Deltas { series: MAX_SERIES, ..Deltas::default() };
        check(&mut Changes::new(&deltas, "t"), "x", 1, 1.0, Err("too many series"));
        deltas.make_room(0);
        assert_eq!(deltas.series(), 0);
        let explicit = |bounds: &[f64]| Total::Explicit {
            bounds: bounds.to_vec(),
            counts: vec![1; bounds.len() + 1],
            count: 2,
            sum: Some(1.5),
        };
        let (labels, mut changes) = (Labels::default(), Changes::new(&deltas, "t"));
        for (t_ms, bounds, expected) in [(10, [1.0], 2), (20, [1.0], 4), (30, [2.0], 2)] {
            let running = changes.add(&labels, t_ms - 10, t_ms, explicit(&bounds)).expect("added");
            let Total::Explicit { count, .. } = running.total else { panic!("{running:?}") };
            assert_eq!(count, expected);
        }
    }
}
