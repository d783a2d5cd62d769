//! How many samples queries hold in memory: each on its own, and all together.
//!
//! A sample that is held costs about [`SAMPLE_BYTES`]. What is counted is what stays: columns between operators, groups,
//! and results; what passes through is bounded by a batch per thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::QueryError;

/// A value in a column, and later in a row with its time.
pub const SAMPLE_BYTES: usize = 16;

/// The room that all queries of a process share.
#[derive(Debug)]
pub struct SharedRoom {
    max_samples: usize,
    held: AtomicUsize,
}

impl SharedRoom {
    pub fn new(max_samples: usize) -> SharedRoom {
        SharedRoom { max_samples, held: AtomicUsize::new(0) }
    }

    /// Samples that queries hold now.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    fn take(&self, samples: usize) -> Result<(), QueryError> {
        let before = self.held.fetch_add(samples, Ordering::Relaxed);
        if before.saturating_add(samples) <= self.max_samples {
            return Ok(());
        }
        self.held.fetch_sub(samples, Ordering::Relaxed);
        let limit = human(self.max_samples);
        Err(QueryError::Limit(format!("pass what all queries together may hold in memory ({limit}): ask again later")))
    }

    fn give_back(&self, samples: usize) {
        self.held.fetch_sub(samples, Ordering::Relaxed);
    }
}

/// What one query holds. Dropped, it gives all of it back.
#[derive(Debug)]
pub(super) struct Room {
    max_samples: usize,
    shared: Option<Arc<SharedRoom>>,
    held: usize,
    peak: usize,
}

impl Room {
    pub fn new(max_samples: usize, shared: Option<Arc<SharedRoom>>) -> Room {
        Room { max_samples, shared, held: 0, peak: 0 }
    }

    pub fn peak(&self) -> usize {
        self.peak
    }

    pub fn take(&mut self, samples: usize) -> Result<(), QueryError> {
        self.check(samples)?;
        self.shared.as_ref().map_or(Ok(()), |shared| shared.take(samples))?;
        self.held += samples;
        self.peak = self.peak.max(self.held);
        Ok(())
    }

    pub fn give_back(&mut self, samples: usize) {
        let samples = samples.min(self.held);
        self.held -= samples;
        self.shared.iter().for_each(|shared| shared.give_back(samples));
    }

    /// Whether this many more could be held.
    pub fn check(&self, samples: usize) -> Result<(), QueryError> {
        if self.held.saturating_add(samples) > self.max_samples { Err(too_many_samples()) } else { Ok(()) }
    }

    /// Whether so many series of so many steps could be held, before any of them is read.
    pub fn check_estimate(&self, series: usize, steps: usize) -> Result<(), QueryError> {
        let samples = series.saturating_mul(steps);
        if self.check(samples).is_ok() {
            return Ok(());
        }
        let (needed, limit) = (human(self.held.saturating_add(samples)), human(self.max_samples));
        Err(QueryError::Limit(format!(
            "load too many samples into memory in query execution: {series} series of {steps} steps are up to {needed}, \
             and a query may hold {limit}"
        )))
    }

    /// Whether half of the room would do.
    pub fn is_ample(&self, samples: usize) -> bool {
        self.held.saturating_add(samples) <= self.max_samples / 2
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.give_back(self.held);
    }
}

/// Samples as bytes, for people.
fn human(samples: usize) -> String {
    let (mut size, mut units) = (samples as f64 * SAMPLE_BYTES as f64, ["B", "kB", "MB", "GB", "TB", "PB"].iter());
    let mut unit = "B";
    while let Some(next) = units.next() {
        unit = next;
        if size < 1000.0 {
            break;
        }
        if units.len() > 0 {
            size /= 1000.0;
        }
    }
    format!("{size:.1} {unit}")
}

pub(super) fn too_many_samples() -> QueryError {
    QueryError::Limit("load too many samples into memory in query execution".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_given_back() {
        let shared = Arc::new(SharedRoom::new(100));
        let mut one = Room::new(80, Some(shared.clone()));
        let mut other = Room::new(80, Some(shared.clone()));
        one.take(60).expect("there is room");
        assert!(matches!(one.take(30), Err(QueryError::Limit(message)) if message.contains("too many samples")));
        assert!(matches!(other.take(50), Err(QueryError::Limit(message)) if message.contains("all queries together")));
        one.give_back(20);
        other.take(50).expect("there is room");
        assert_eq!((shared.held(), one.peak()), (90, 60));
        drop((one, other));
        assert_eq!(shared.held(), 0);
    }

    #[test]
    fn estimates_are_said_in_bytes() {
        let room = Room::new(1_000_000, None);
        assert!(room.check_estimate(1000, 1000).is_ok());
        let Err(QueryError::Limit(message)) = room.check_estimate(625_000, 10_000) else { panic!("it is too much") };
        assert!(message.contains("625000 series of 10000 steps are up to 100.0 GB"), "{message}");
        assert_eq!(
            (human(1), human(1000), human(usize::MAX)),
            ("16.0 B".into(), "16.0 kB".into(), "295147.9 PB".into())
        );
    }
}
