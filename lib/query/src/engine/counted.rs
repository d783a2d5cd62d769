//! How much a query looked at, as Prometheus counts it: at every step, the samples in the step's windows.

use std::sync::atomic::{AtomicU64, Ordering};

use super::column::Grid;
use super::select::Frame;
use crate::Samples;

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
    total: AtomicU64,
    per_step: Vec<AtomicU64>,
}

impl Counted {
    pub fn new(what: Counting, grid: Grid) -> Counted {
        let steps = if what == Counting::PerStep { grid.steps } else { 0 };
        Counted { what, grid, total: AtomicU64::new(0), per_step: (0..steps).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Counts what the steps of a grid see of one series: all samples of their windows, or only the latest.
    pub fn add(&self, samples: &Samples, grid: Grid, frame: Frame, only_latest: bool) {
        if self.what == Counting::Nothing {
            return;
        }
        let times = &samples.timestamps_ms;
        let (mut first, mut past, mut total) = (0, 0, 0);
        for (step, t_ms) in grid.times().enumerate() {
            let end_ms = frame.end_ms(t_ms);
            while past < times.len() && times[past] <= end_ms {
                past += 1;
            }
            while first < past && times[first] <= end_ms.saturating_sub(frame.range_ms) {
                first += 1;
            }
            let seen = (past - first).min(if only_latest { 1 } else { usize::MAX }) as u64;
            total += seen;
            if let Some(slot) = self.per_step.get(step).filter(|_| grid == self.grid) {
                slot.fetch_add(seen, Ordering::Relaxed);
            }
        }
        self.total.fetch_add(total, Ordering::Relaxed);
    }

    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    pub fn per_step(&self) -> Vec<(i64, u64)> {
        self.grid.times().zip(self.per_step.iter().map(|count| count.load(Ordering::Relaxed))).collect()
    }
}
