//! PromQL scripts against the store: wherever the samples lie, answers are those of the store in memory.
//!
//! `BINNACLE_SCRIPTS=DIR` runs the scripts of another directory instead of the query crate's own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use disk::FakeDisk;
use model::{Batch, HistogramSample, Labels, MetricBatch, Sample, SeriesSamples};
use parking_lot::Mutex;
use query::script::{ScriptStore, run};
use query::{Engine, Point, Series};

use super::*;

const DIR: &str = "tsdb";
/// What scripts ask for.
const TENANT: &str = "default";
/// Long after any sample of a script, so that every day is over and two parts are enough for a merge.
const NOW_MS: i64 = 30_000 * MS_PER_DAY;

/// Where the samples lie when a query comes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    Head,
    Parts,
    /// Every other instant in parts, the rest in the head.
    Both,
    /// Every other instant in parts of its own, which were merged.
    Merged,
}

struct Sent {
    labels: Labels,
    t_ms: i64,
    point: Point,
    start_ms: Option<i64>,
}

/// A store that takes a script's samples as records, and puts them in place when it is asked.
struct Placed {
    place: Place,
    store: Store,
    sent: Mutex<Vec<Sent>>,
}

impl Placed {
    fn new(place: Place) -> Placed {
        let store = Store::open(Arc::new(FakeDisk::new()), Path::new(DIR), "bus").expect("the store opens");
        Placed { place, store, sent: Mutex::default() }
    }

    fn settle(&self) {
        let sent = std::mem::take(&mut *self.sent.lock());
        if sent.is_empty() {
            return;
        }
        let instants: BTreeSet<i64> = sent.iter().map(|one| one.t_ms).collect();
        let published: BTreeSet<i64> = instants.into_iter().step_by(2).collect();
        let is_split = matches!(self.place, Place::Both | Place::Merged);
        let (early, late): (Vec<Sent>, Vec<Sent>) =
            sent.into_iter().partition(|one| !is_split || published.contains(&one.t_ms));
        self.apply(&early);
        if self.place != Place::Head {
            self.store.publish().expect("published");
        }
        self.apply(&late);
        if self.place == Place::Merged {
            self.store.publish().expect("published");
            while self.store.merge_one(NOW_MS, Effort::Due).expect("merged") {}
        }
    }

    /// As a record that was written and read.
    fn apply(&self, sent: &[Sent]) {
        let batch = Batch::Metrics(MetricBatch::new(TENANT, in_series(sent)));
        let Batch::Metrics(batch) = bus::decode(&bus::encode(&batch)).expect("a record") else {
            panic!("it was of metrics");
        };
        let offset = self.store.next(0).unwrap_or(0);
        self.store.apply(0, offset, &batch, i64::MIN, NOW_MS);
    }
}

/// Neighbours of one series and rising time as one series of a batch.
fn in_series(sent: &[Sent]) -> Vec<SeriesSamples> {
    let mut found: Vec<SeriesSamples> = Vec::new();
    let mut last_ms = i64::MAX;
    for Sent { labels, t_ms, point, start_ms } in sent {
        let (t_ms, start_ms) = (*t_ms, start_ms.unwrap_or(0));
        if t_ms <= last_ms || found.last().is_none_or(|series| series.labels != *labels) {
            found.push(SeriesSamples { labels: labels.clone(), ..SeriesSamples::default() });
        }
        last_ms = t_ms;
        let Some(series) = found.last_mut() else { continue };
        match point {
            Point::Float(value) => {
                series.samples.push(Sample { t_ms, value: *value });
                series.starts_ms.push(start_ms);
            }
            Point::Histogram(histogram) => {
                series.histograms.push(HistogramSample { t_ms, start_ms, histogram: histogram.clone() });
            }
        }
    }
    found
}

impl ScriptStore for Placed {
    fn clear(&mut self) {
        *self = Placed::new(self.place);
    }

    fn push(&mut self, labels: &Labels, t_ms: i64, point: Point, start_ms: Option<i64>) -> Result<(), String> {
        self.sent.lock().push(Sent { labels: labels.clone(), t_ms, point, start_ms });
        Ok(())
    }

    fn source(&self) -> &dyn Series {
        self.settle();
        &self.store
    }
}

fn scripts() -> BTreeMap<PathBuf, String> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../lib/query/testdata");
    let dir = std::env::var_os("BINNACLE_SCRIPTS").map_or(own, PathBuf::from);
    let entries = std::fs::read_dir(&dir).expect("a directory of scripts");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let scripts = paths.filter(|path| path.extension().is_some_and(|extension| extension == "test"));
    scripts.map(|path| (path.clone(), std::fs::read_to_string(path).expect("readable"))).collect()
}

fn check(place: Place) {
    let mut evaluations = 0;
    let mut faults = Vec::new();
    for (path, text) in scripts() {
        let report = run(&text, &Engine::default(), &mut Placed::new(place));
        let report = report.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        evaluations += report.evaluations;
        let shown = |f: query::script::Failure| format!("{}:{}: {}: {}", path.display(), f.line, f.command, f.message);
        faults.extend(report.failures.into_iter().map(shown));
    }
    println!("{place:?}: {} of {evaluations} evaluations failed", faults.len());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(evaluations > 100, "only {evaluations} evaluations");
}

#[test]
fn samples_in_the_head() {
    check(Place::Head);
}

#[test]
fn samples_in_parts() {
    check(Place::Parts);
}

#[test]
fn samples_in_parts_and_head() {
    check(Place::Both);
}

#[test]
fn samples_in_merged_parts() {
    check(Place::Merged);
}
