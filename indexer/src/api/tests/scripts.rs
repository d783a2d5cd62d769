//! The scripts of LogQL, on the real store: lines from the head, and from segments after a flush.

use std::sync::Arc;

use ::query::logql::LogEngine;
use ::query::{Lines, LogScriptStore, run_log_script};
use disk::FakeDisk;
use model::{Batch, Labels, LogBatch, Origin};

use crate::store::{LogStore, StoreOptions};

const EPOCH_NS: i64 = 1_700_000_000_000_000_000;

struct Store {
    store: LogStore,
    batch: LogBatch,
    offset: u64,
    /// Whether a block of lines is published when it is loaded.
    publishes: bool,
}

fn open() -> LogStore {
    let disk = Arc::new(FakeDisk::new());
    let now = Arc::new(|| EPOCH_NS + 600_000_000_000);
    LogStore::open(disk, std::path::Path::new("/logs"), "bus", StoreOptions::default(), now).expect("opens")
}

fn empty() -> LogBatch {
    LogBatch::new("default", Origin::Pushed)
}

impl LogScriptStore for Store {
    fn clear(&mut self) -> Result<(), String> {
        *self = Store { store: open(), batch: empty(), offset: 0, publishes: self.publishes };
        Ok(())
    }

    fn push(&mut self, labels: &Labels, t_ns: i64, text: &str, metadata: &Labels) -> Result<(), String> {
        let place = |sets: &mut Vec<Labels>, set: &Labels| {
            let known = sets.iter().position(|known| known == set);
            known.unwrap_or_else(|| {
                sets.push(set.clone());
                sets.len() - 1
            }) as u32
        };
        let stream = place(&mut self.batch.streams, labels);
        let metadata = place(&mut self.batch.metadata, metadata);
        self.batch.push(stream, t_ns, text, metadata, 0);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), String> {
        let batch = std::mem::replace(&mut self.batch, empty());
        self.store.apply(0, self.offset, &Arc::new(Batch::Logs(batch)));
        self.offset += 1;
        if self.publishes {
            self.store.publish().map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn source(&self) -> &dyn Lines {
        &self.store
    }

    fn epoch_ns(&self) -> i64 {
        EPOCH_NS
    }
}

fn check(script: &str) {
    for publishes in [false, true] {
        let mut store = Store { store: open(), batch: empty(), offset: 0, publishes };
        let report = run_log_script(script, &LogEngine::default(), &mut store).expect("a script");
        let shown = report.failures.iter().map(|f| format!("line {}: {}: {}\n", f.line, f.command, f.message));
        assert!(report.failures.is_empty(), "published: {publishes}\n{}", shown.collect::<String>());
        assert!(report.evaluations > 0);
    }
}

#[test]
fn selection() {
    check(include_str!("../../../../lib/query/testdata/logql/selection.logqltest"));
}

#[test]
fn line_filters() {
    check(include_str!("../../../../lib/query/testdata/logql/line_filters.logqltest"));
}

#[test]
fn parsers() {
    check(include_str!("../../../../lib/query/testdata/logql/parsers.logqltest"));
}

#[test]
fn label_filters() {
    check(include_str!("../../../../lib/query/testdata/logql/label_filters.logqltest"));
}

#[test]
fn ranges() {
    check(include_str!("../../../../lib/query/testdata/logql/ranges.logqltest"));
}

#[test]
fn operators() {
    check(include_str!("../../../../lib/query/testdata/logql/operators.logqltest"));
}
