//! Quantiles of a classic histogram, many steps at a time: bucket by bucket over a block of steps, which the processor does
//! several of at once. The results, and what is said of buckets that had to be fixed, are those of [`Buckets`], to which
//! unusual steps are left.
//!
//! [`Buckets`]: super::quantile::Buckets

use super::column::Grid;
use super::notes::Fixed;
use super::quantile::{ROUNDING, at_rank, is_about};

/// As many steps are computed together.
pub(super) const BLOCK: usize = 64;

/// A number per step of a block; those beyond the last step are zero.
type Lanes = [f64; BLOCK];

/// Differences in relation to size that are more than rounding, without a closer look.
const CLEAR: f64 = ROUNDING * 1.1;
/// Keeps what is near the smallest numbers from being clear.
const TINY: f64 = 1e-300;

/// Room to compute in.
#[derive(Default)]
pub(super) struct Blocks {
    /// The counts of each bucket, rising from one to the next.
    counts: Vec<Lanes>,
}

/// A block's results, and how its counts had to be fixed.
pub(super) struct Computed {
    pub values: Lanes,
    pub fixed: Option<Fixed>,
}

impl Blocks {
    /// The quantiles of a block of steps from `first` on. The buckets' bounds rise, and the last one is infinite. `None`
    /// where a step needs a closer look: something is absent or not a number, or a quantile out of bounds.
    pub fn quantiles(
        &mut self,
        buckets: &[(f64, &[f64])],
        quantile: impl Fn(usize) -> f64,
        first: usize,
        grid: Grid,
    ) -> Option<Computed> {
        let steps = first..(first + BLOCK).min(grid.steps);
        if !steps.clone().all(|step| (0.0..=1.0).contains(&quantile(step))) {
            return None;
        }
        self.counts.clear();
        let mut falls = Falls::default();
        for (bound, counts) in buckets {
            let mut lanes = lanes_of(&counts[steps.clone()])?;
            if let Some(before) = self.counts.last() {
                falls.raise(*bound, before, &mut lanes);
            }
            self.counts.push(lanes);
        }
        let (observations, below) = self.counts.split_last()?;
        let mut ranks = [0.0; BLOCK];
        for (step, (rank, all)) in steps.clone().zip(ranks.iter_mut().zip(observations)) {
            *rank = quantile(step) * all;
        }
        // In so many buckets: all from the one on in which the rank falls.
        let mut reached = [0u64; BLOCK];
        for counts in below {
            for lane in 0..BLOCK {
                reached[lane] += u64::from(counts[lane] >= ranks[lane]);
            }
        }
        let mut values = [f64::NAN; BLOCK];
        for lane in (0..steps.len()).filter(|lane| observations[*lane] != 0.0) {
            let bucket = |i: usize| (buckets[i].0, self.counts[i][lane]);
            values[lane] = at_rank(ranks[lane], below.len() - reached[lane] as usize, below.len(), bucket);
        }
        Some(Computed { values, fixed: falls.fixed(first, grid) })
    }
}

/// `None` where a number is missing or is none.
fn lanes_of(counts: &[f64]) -> Option<Lanes> {
    let mut lanes = [0.0; BLOCK];
    lanes[..counts.len()].copy_from_slice(counts);
    let wrong: u64 = lanes.iter().map(|count| u64::from(count.is_nan())).sum();
    (wrong == 0).then_some(lanes)
}

/// Where counts fell from one bucket to the next.
struct Falls {
    /// The greatest at each step; zero where there was none.
    most: Lanes,
    min_bucket: f64,
    max_bucket: f64,
}

impl Default for Falls {
    fn default() -> Falls {
        Falls { most: [0.0; BLOCK], min_bucket: f64::INFINITY, max_bucket: f64::NEG_INFINITY }
    }
}

impl Falls {
    /// Lifts the counts of a bucket to those of the one before. What rounding explains is changed silently.
    fn raise(&mut self, bound: f64, before: &Lanes, counts: &mut Lanes) {
        let given = *counts;
        let (mut any, mut unclear) = (0, 0);
        for lane in 0..BLOCK {
            let (from, to) = (before[lane], given[lane]);
            let (fall, slack) = (from - to, (from.abs() + to.abs()) * CLEAR + TINY);
            let is_fall = fall > slack;
            counts[lane] = if -fall > slack { to } else { from };
            self.most[lane] = if is_fall && fall > self.most[lane] { fall } else { self.most[lane] };
            any |= u64::from(is_fall);
            let is_clear = (fall.abs() > slack) | (fall == 0.0);
            unclear |= u64::from(!is_clear);
        }
        if unclear != 0 {
            any |= u64::from(self.raise_closely(before, &given, counts));
        }
        if any != 0 {
            self.min_bucket = self.min_bucket.min(bound);
            self.max_bucket = self.max_bucket.max(bound);
        }
    }

    /// As [`Falls::raise`], where it is not clear whether rounding explains a difference. Answers whether a count fell.
    fn raise_closely(&mut self, before: &Lanes, given: &Lanes, counts: &mut Lanes) -> bool {
        let mut any = false;
        for lane in 0..BLOCK {
            let (from, to) = (before[lane], given[lane]);
            let is_same = is_about(from, to);
            counts[lane] = if is_same || to < from { from } else { to };
            if !is_same && to < from {
                self.most[lane] = self.most[lane].max(from - to);
                any = true;
            }
        }
        any
    }

    fn fixed(&self, first: usize, grid: Grid) -> Option<Fixed> {
        let fell = |lane: &usize| self.most[*lane] > 0.0;
        let (from, to) = ((0..BLOCK).find(fell)?, (0..BLOCK).rfind(fell)?);
        Some(Fixed {
            from_ms: grid.time(first + from),
            to_ms: grid.time(first + to),
            min_bucket: self.min_bucket,
            max_bucket: self.max_bucket,
            max_diff: self.most.iter().copied().fold(0.0, f64::max),
            samples: (0..BLOCK).filter(fell).count(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::quantile::Buckets;
    use super::*;

    const STEPS: usize = BLOCK + 7;
    const GRID: Grid = Grid { start_ms: 1000, step_ms: 700, steps: STEPS };

    /// All steps in blocks, beside each step by itself. Answers how many blocks there were.
    fn check(columns: &[Vec<f64>], quantiles: &[f64]) -> usize {
        let last = columns.len() - 1;
        let bound = |i: usize| if i == last { f64::INFINITY } else { i as f64 - 1.0 };
        let buckets: Vec<(f64, &[f64])> =
            columns.iter().enumerate().map(|(i, counts)| (bound(i), counts.as_slice())).collect();
        let (mut blocks, mut one, mut computed) = (Blocks::default(), Buckets::default(), 0);
        for first in (0..STEPS).step_by(BLOCK) {
            let Some(found) = blocks.quantiles(&buckets, |step| quantiles[step], first, GRID) else { continue };
            computed += 1;
            let mut fixed = None;
            for (step, found) in (first..STEPS).zip(found.values) {
                one.fill(&buckets, step);
                let (value, at_step) = one.quantile(quantiles[step], GRID.time(step));
                fixed = at_step.into_iter().chain(fixed).reduce(Fixed::and);
                let (value, found) = (value.to_bits(), found.to_bits());
                assert!(value == found, "{} is not {}", f64::from_bits(found), f64::from_bits(value));
            }
            assert_eq!(found.fixed, fixed);
        }
        computed
    }

    proptest! {
        #[test]
        fn a_block_gives_what_its_steps_give(
            counts in prop::collection::vec(
                prop_oneof![6 => 0u8..9, 1 => Just(100)],
                STEPS * 4..STEPS * 5,
            ),
            q in prop_oneof![Just(0.0), Just(1.0), 0.0..1.0],
        ) {
            let value = |count: u8| match count {
                0 => 0.0,
                1 => 1e-310,
                2 => -2.0,
                3 => 1.0 + 1.04e-12,
                4 => 1.0 + 2e-12,
                5 => 1.0 + 3e-12,
                100 => f64::INFINITY,
                count => f64::from(count) - 5.0,
            };
            let values: Vec<f64> = counts.into_iter().map(value).collect();
            let columns: Vec<Vec<f64>> = values.chunks_exact(STEPS).map(<[f64]>::to_vec).collect();
            assert_eq!(check(&columns, &[q; STEPS]), 2);
        }
    }

    #[test]
    fn unusual_steps_are_left_to_others() {
        let rising = |i: usize| vec![i as f64; STEPS];
        let columns = [rising(1), rising(2), rising(3)];
        assert_eq!(check(&columns, &[0.5; STEPS]), 2);
        assert_eq!(check(&columns, &[1.5; STEPS]), 0);
        let mut with_gap = columns.clone();
        with_gap[1][BLOCK] = super::super::column::absent();
        assert_eq!(check(&with_gap, &[0.5; STEPS]), 1);
    }
}
