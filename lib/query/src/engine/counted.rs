//! How much a query looked at, as Prometheus counts it: at every step, the samples in the step's windows, and those of them
//! that the step before had not seen.

use std::sync::atomic::{AtomicU64, Ordering};

use super::column::Grid;
use super::select::Frame;
use crate::{Samples, Work};

/// What is to be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Counting {
    #[default]
    Nothing,
    Total,
    PerStep,
}

/// Counted so far, by all threads.
#[derive(Debug)]
pub(super) struct Counted {
    what: Counting,
    /// The query's own steps; those of subqueries count in the total only.
    grid: Grid,
    seen: Tally,
    read: Tally,
}

/// In total, and by step where that is asked for.
#[derive(Debug)]
struct Tally {
    total: AtomicU64,
    per_step: Vec<AtomicU64>,
}

impl Tally {
    fn new(steps: usize) -> Tally {
        Tally { total: AtomicU64::new(0), per_step: (0..steps).map(|_| AtomicU64::new(0)).collect() }
    }

    fn add_at(&self, step: usize, count: usize) {
        self.per_step.get(step).map(|slot| slot.fetch_add(count as u64, Ordering::Relaxed));
    }

    fn add(&self, count: usize) {
        self.total.fetch_add(count as u64, Ordering::Relaxed);
    }

    fn result(&self, grid: Grid) -> (u64, Vec<(i64, u64)>) {
        let steps = self.per_step.iter().map(|count| count.load(Ordering::Relaxed));
        (self.total.load(Ordering::Relaxed), grid.times().zip(steps).collect())
    }
}

impl Counted {
    pub fn new(what: Counting, grid: Grid) -> Counted {
        let steps = if what == Counting::PerStep { grid.steps } else { 0 };
        Counted { what, grid, seen: Tally::new(steps), read: Tally::new(steps) }
    }

    /// Counts what the steps of a grid see of one series: all samples of their windows, or only the latest.
    pub fn add(&self, samples: &Samples, grid: Grid, frame: Frame, only_latest: bool) {
        if self.what == Counting::Nothing {
            return;
        }
        let times = &samples.timestamps_ms;
        let (mut first, mut past, mut seen_in_all, mut read_in_all) = (0, 0, 0, 0);
        for (step, t_ms) in grid.times().enumerate() {
            let (end_ms, past_before) = (frame.end_ms(t_ms), past);
            while past < times.len() && times[past] <= end_ms {
                past += 1;
            }
            while first < past && times[first] <= end_ms.saturating_sub(frame.range_ms) {
                first += 1;
            }
            let (seen, read) = match past - first {
                latest if only_latest => (latest.min(1), latest.min(1)),
                window => (window, past - first.max(past_before)),
            };
            seen_in_all += seen;
            read_in_all += read;
            if grid == self.grid {
                self.seen.add_at(step, seen);
                self.read.add_at(step, read);
            }
        }
        self.seen.add(seen_in_all);
        self.read.add(read_in_all);
    }

    pub fn work(&self, peak_samples: usize) -> Work {
        let ((samples, per_step), (read, read_per_step)) = (self.seen.result(self.grid), self.read.result(self.grid));
        Work { samples, per_step, read, read_per_step, peak_samples }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(only_latest: bool, seen: &[u64], read: &[u64]) {
        let counted = Counted::new(Counting::PerStep, Grid { start_ms: 0, step_ms: 100, steps: 4 });
        let samples =
            Samples { timestamps_ms: vec![-150, -50, 0, 50, 250], values: vec![0.0; 5], ..Samples::default() };
        counted.add(&samples, counted.grid, Frame::plain(200), only_latest);
        let work = counted.work(0);
        let counts = |steps: Vec<(i64, u64)>| steps.into_iter().map(|(_, count)| count).collect::<Vec<_>>();
        assert_eq!((work.samples, work.read), (seen.iter().sum(), read.iter().sum()));
        assert_eq!((counts(work.per_step).as_slice(), counts(work.read_per_step).as_slice()), (seen, read));
    }

    #[test]
    fn what_windows_share_is_read_once() {
        check(false, &[3, 3, 1, 1], &[3, 1, 0, 1]);
        check(true, &[1, 1, 1, 1], &[1, 1, 1, 1]);
    }
}
