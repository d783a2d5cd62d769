//! Merges of neighbouring small parts of a day, one at a time.
//!
//! A run of parts from some place to the newest is merged where its oldest is not much larger than all newer ones
//! together, so that a sample is written again only a logarithmic number of times. Publishing goes on meanwhile.
//!
//! A merge gives way to queries ([`super::turns`]). A day whose merge failed is left alone for a while, and one that the disk
//! has no room for waits; other days go on.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use model::{Exemplar, Labels, MS_PER_DAY};

use super::columns::{self, Samples};
use super::deletions::{ranges_of, remove_all};
use super::exemplars::thin;
use super::manifest::PartEntry;
use super::part::{Cursor, Directory, Packing, PartWriter, Reading};
use super::turns::Turns;
use super::{LivePart, Store, StoreError};

/// Parts of today are merged by so many.
const MIN_RUN_TODAY: usize = 6;
/// Days that are over end up in few parts.
const MIN_RUN: usize = 2;
const MAX_RUN: usize = 64;
/// The oldest of a run may be this many times the newer ones together.
const MAX_IMBALANCE: u64 = 2;
/// So many samples a series make a part of today worth packing.
const PACKED_SERIES_SAMPLES: u64 = 1024;
/// No merge makes a part of more samples.
const MAX_SAMPLES: u64 = 500_000_000;

/// A day whose merge failed is tried again after this long.
const RETRY_MS: i64 = 600_000;
/// A merge leaves at least this much of the disk free.
const SPARE_BYTES: u64 = 64 << 20;

/// When the merge of a tenant's day failed.
pub type Failures = BTreeMap<(String, i64), i64>;

impl Store {
    /// Does the next merge that is due. Answers whether there was one. After an error the next call takes another day.
    pub fn merge_one(&self, now_ms: i64, effort: Effort) -> Result<bool, StoreError> {
        let mut failures = self.merging.lock();
        failures.retain(|_, failed_ms| now_ms - *failed_ms < RETRY_MS);
        let free = self.disk.free_bytes(&self.dir);
        let free = free.map_err(|error| StoreError::io("cannot ask for free space", &self.dir, error))?;
        let Some(run) = self.due_runs(now_ms, effort, &failures, free).into_iter().next() else { return Ok(false) };
        let is_over = run[0].entry.day < now_ms.div_euclid(MS_PER_DAY);
        self.merge_run(&run, packing_of(&run, is_over || effort == Effort::All)).map(|()| true).inspect_err(|_| {
            let PartEntry { tenant, day, .. } = &run[0].entry;
            failures.insert((tenant.clone(), *day), now_ms);
        })
    }

    /// How many merges are due now; each may lead to another.
    pub fn merges_due(&self, now_ms: i64, effort: Effort) -> usize {
        self.due_runs(now_ms, effort, &self.merging.lock(), u64::MAX).len()
    }

    fn merge_run(&self, run: &[LivePart], packing: Packing) -> Result<(), StoreError> {
        let number = self.manifest.lock().take_number();
        let merged = self.write_part(number, packing, |writer| merge(writer, run, &self.turns)).and_then(|written| {
            let parts_dir = self.dir.join("parts");
            self.disk.sync_dir(&parts_dir).map_err(|error| StoreError::io("cannot sync", &parts_dir, error))?;
            Ok(written)
        });
        let (summary, directory) = merged.inspect_err(|_| self.remove_parts([number].into_iter()))?;
        self.written.merged.fetch_add(summary.bytes, Ordering::Relaxed);
        let entry = PartEntry {
            number,
            summary,
            packed: packing == Packing::Small,
            deletions: Vec::new(),
            ..run[0].entry.clone()
        };
        let mut manifest = self.manifest.lock();
        // Retention may have dropped the day meanwhile.
        if !run.iter().all(|live| manifest.parts.iter().any(|entry| entry.number == live.entry.number)) {
            self.remove_parts([number].into_iter());
            return Ok(());
        }
        if summary.series == 0 {
            // Everything in it was deleted.
            self.replace(&mut manifest, run, None)?;
            self.remove_parts([number].into_iter());
            return Ok(());
        }
        let live = self.live_part(entry, directory, |_| self.directories.are_asked(run));
        self.replace(&mut manifest, run, Some(live))
    }

    /// Parts to be written again without what was deleted of them, once somebody asked for that.
    fn deleted_from(&self, failures: &Failures, free_bytes: u64) -> Vec<Vec<LivePart>> {
        let view = self.view.read();
        let is_due = |live: &&LivePart| {
            let PartEntry { tenant, day, number, summary, deletions, .. } = &live.entry;
            view.clean_below > *number
                && !deletions.is_empty()
                && !failures.contains_key(&(tenant.clone(), *day))
                && free_bytes >= summary.bytes.saturating_add(SPARE_BYTES)
        };
        view.parts.iter().filter(is_due).map(|live| vec![live.clone()]).collect()
    }

    /// Asks for parts to be written again without what was deleted of them; [`Store::merge_one`] does it.
    pub fn clean_deletions(&self) {
        let mut view = self.view.write();
        view.clean_below = view.parts.iter().map(|live| live.entry.number + 1).max().unwrap_or(0);
    }

    /// What is to be merged, a day of a tenant each, and then parts of which something was deleted.
    fn due_runs(&self, now_ms: i64, effort: Effort, failures: &Failures, free_bytes: u64) -> Vec<Vec<LivePart>> {
        let today = now_ms.div_euclid(MS_PER_DAY);
        let mut days: BTreeMap<(&str, i64), Vec<&LivePart>> = BTreeMap::new();
        let view = self.view.read();
        for live in &view.parts {
            days.entry((&live.entry.tenant, live.entry.day)).or_default().push(live);
        }
        let has_failed =
            |tenant: &str, day| failures.keys().any(|failed| (failed.0.as_str(), failed.1) == (tenant, day));
        let due = days.into_iter().filter(|((tenant, day), _)| !has_failed(tenant, *day));
        let runs = due.filter_map(|((_, day), parts)| {
            let sizes: Vec<u64> = parts.iter().map(|live| live.entry.summary.samples).collect();
            let range = match effort {
                Effort::Due => run_of(&sizes, if day < today { MIN_RUN } else { MIN_RUN_TODAY }),
                Effort::All => whole_run(&sizes),
            };
            // Days that are over, and all when that is asked for, are packed in the end.
            let unpacked = || parts.iter().position(|live| !live.entry.packed).map(|at| at..at + 1);
            let is_final = day < today || effort == Effort::All;
            let range = range.or_else(|| is_final.then(unpacked).flatten())?;
            let run: Vec<LivePart> = parts[range].iter().map(|live| (*live).clone()).collect();
            let bytes: u64 = run.iter().map(|live| live.entry.summary.bytes).sum();
            (free_bytes >= bytes.saturating_add(SPARE_BYTES)).then_some(run)
        });
        let runs: Vec<_> = runs.collect();
        drop(view);
        runs.into_iter().chain(self.deleted_from(failures, free_bytes)).collect()
    }
}

/// How much is to be merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// What keeps the number of parts low at little cost.
    Due,
    /// Every day into as few parts as can be, packed.
    All,
}

/// Long series of today are worth packing: their part is merged again a few times only.
fn packing_of(run: &[LivePart], is_final: bool) -> Packing {
    let samples: u64 = run.iter().map(|live| live.entry.summary.samples).sum();
    let series = run.iter().map(|live| live.entry.summary.series).max().unwrap_or(0);
    if is_final || samples >= series * PACKED_SERIES_SAMPLES { Packing::Small } else { Packing::Quick }
}

/// The run that is due.
fn run_of(sizes: &[u64], min_run: usize) -> Option<Range<usize>> {
    let mut ranges = (0..sizes.len()).map(|from| from..sizes.len().min(from + MAX_RUN));
    ranges.find(|range| {
        let run = &sizes[range.clone()];
        let newer: u64 = run.iter().skip(1).sum();
        run.len() >= min_run && run[0] <= newer.saturating_mul(MAX_IMBALANCE) && run[0] + newer <= MAX_SAMPLES
    })
}

/// The first neighbours that can be one part.
fn whole_run(sizes: &[u64]) -> Option<Range<usize>> {
    (0..sizes.len()).find_map(|from| {
        let mut samples = 0;
        let fitting = sizes[from..].iter().take(MAX_RUN).take_while(|size| {
            samples += **size;
            samples <= MAX_SAMPLES
        });
        let run = fitting.count();
        (run >= 2).then_some(from..from + run)
    })
}

/// Writes the series of all parts in order, without what was deleted; of one instant the sample of the latest part wins.
/// Gives way to queries.
fn merge(writer: &mut PartWriter, run: &[LivePart], turns: &Turns) -> Result<(), StoreError> {
    let (began, mut waited) = (Instant::now(), Duration::ZERO);
    let mut inputs = run.iter().map(Input::new).collect::<Result<Vec<_>, _>>()?;
    let (mut merged, mut exemplars) = (Samples::default(), Vec::new());
    while let Some(labels) = inputs.iter().filter_map(|input| input.labels.as_ref()).min().cloned() {
        merged.clear();
        exemplars.clear();
        for input in inputs.iter_mut().filter(|input| input.labels.as_ref() == Some(&labels)) {
            input.read(&labels, &mut merged, &mut exemplars)?;
            input.advance();
        }
        thin(&mut exemplars);
        if !merged.is_empty() || !exemplars.is_empty() {
            writer.add(&labels, &merged, &exemplars)?;
        }
        let worked = began.elapsed().saturating_sub(waited);
        waited += turns.give_way(worked.saturating_sub(waited));
    }
    Ok(())
}

/// A part being read in the order of its series.
struct Input<'a> {
    live: &'a LivePart,
    directory: Directory,
    id: u32,
    /// Of the series at hand; `None` at the end.
    labels: Option<Labels>,
    cursor: Cursor,
}

impl Input<'_> {
    fn new(live: &LivePart) -> Result<Input<'_>, StoreError> {
        let directory = live.part.load()?;
        let labels = (directory.series() > 0).then(|| directory.labels(0));
        Ok(Input { live, directory, id: 0, labels, cursor: Cursor::default() })
    }

    /// Adds the series at hand to what earlier parts had of it.
    fn read(&mut self, labels: &Labels, into: &mut Samples, exemplars: &mut Vec<Exemplar>) -> Result<(), StoreError> {
        let (entry, directory) = (&self.live.entry, &self.directory);
        let deleted = ranges_of(&entry.deletions, &entry.tenant, labels);
        let cursor = &mut self.cursor;
        if deleted.is_empty() {
            directory.read(self.id, &Reading::ALL, cursor, into)?;
        } else {
            let mut own = Samples::default();
            directory.read(self.id, &Reading::ALL, cursor, &mut own)?;
            remove_all(&mut own, &deleted);
            columns::merge_later(into, &own);
        }
        let own = directory.exemplars(self.id, &Reading::ALL, cursor)?;
        let is_kept = |one: &Exemplar| !deleted.iter().any(|(start, end)| (*start..=*end).contains(&one.t_ms));
        exemplars.extend(own.into_iter().filter(is_kept));
        Ok(())
    }

    fn advance(&mut self) {
        self.id += 1;
        self.labels = (self.id < self.directory.series()).then(|| self.directory.labels(self.id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sizes: &[u64], min_run: usize, expected: Option<usize>) {
        assert_eq!(run_of(sizes, min_run).map(|run| run.start), expected, "{sizes:?}");
    }

    #[test]
    fn all_that_fits_is_one_run() {
        assert_eq!(whole_run(&[5]), None);
        assert_eq!(whole_run(&[1000, 1, 1]), Some(0..3));
        assert_eq!(whole_run(&[MAX_SAMPLES, 1, 2]), Some(1..3));
        assert_eq!(whole_run(&[MAX_SAMPLES, MAX_SAMPLES]), None);
    }

    #[test]
    fn runs_are_of_similar_parts() {
        check(&[1; 5], MIN_RUN_TODAY, None);
        check(&[1; 6], MIN_RUN_TODAY, Some(0));
        check(&[100, 1, 1, 1, 1, 1, 1], MIN_RUN_TODAY, Some(1));
        check(&[12, 1, 1, 1, 1, 1, 1], MIN_RUN_TODAY, Some(0));
        check(&[100, 1], MIN_RUN, None);
        check(&[2, 1], MIN_RUN, Some(0));
        check(&[MAX_SAMPLES, MAX_SAMPLES], MIN_RUN, None);
    }
}
