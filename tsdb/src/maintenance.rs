//! Maintenance: when heads are published, parts merged and days dropped.
//!
//! A head is published at a replay budget, at an age, or when nothing comes any more. While a publishing fails or lags,
//! the head grows up to a bound; past it the store stops taking records, which wait on the bus. Retention asks for none of
//! the others to succeed: it is what frees a full disk.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bus::Topic;
use model::now_ms;
use service::work::Work;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::store::{Effort, HeadStats, Store, StoreError};
use crate::{Tsdb, TsdbError};

/// Samples that a restart may have to replay.
const REPLAY_SAMPLES: usize = 2_000_000;
const REPLAY_BYTES: usize = 512 << 20;
/// Past so many budgets the store waits for its disk.
const MAX_BUDGETS: usize = 4;
const MAX_AGE: Duration = Duration::from_secs(600);
const MAX_IDLE: Duration = Duration::from_secs(120);
const TICK: Duration = Duration::from_secs(1);
/// After a failure nothing is tried for this long.
const PAUSE: Duration = Duration::from_secs(10);
/// How often retention, inactive series and merges are looked after.
const TIDY_EVERY: Duration = Duration::from_secs(30);

/// What is known of the head's growth.
struct HeadAge {
    samples: usize,
    began: Instant,
    changed: Instant,
}

impl HeadAge {
    fn new(now: Instant) -> HeadAge {
        HeadAge { samples: 0, began: now, changed: now }
    }

    /// Whether the head should be published now.
    fn is_due(&mut self, stats: HeadStats, now: Instant) -> bool {
        if stats.samples < self.samples || self.samples == 0 {
            self.began = now;
        }
        if stats.samples != self.samples {
            self.changed = now;
        }
        self.samples = stats.samples;
        let is_old = now - self.began >= MAX_AGE || now - self.changed >= MAX_IDLE;
        stats.samples > 0 && (is_old || stats.samples >= REPLAY_SAMPLES || stats.bytes >= REPLAY_BYTES)
    }
}

/// When what was done last.
pub(crate) struct Duties {
    age: HeadAge,
    tidied: Instant,
    wants_merge: bool,
}

impl Duties {
    pub fn new(now: Instant) -> Duties {
        Duties { age: HeadAge::new(now), tidied: now, wants_merge: false }
    }
}

/// Says what failed, and answers whether it did not. A panic is a bug and ends the store.
fn tell(done: Result<(), TsdbError>, consequence: &'static str) -> Result<bool, TsdbError> {
    match done {
        Ok(()) => Ok(true),
        Err(error @ TsdbError::Task(_)) => Err(error),
        Err(error) => {
            tracing::warn!(%error, "{consequence}");
            Ok(false)
        }
    }
}

impl Tsdb {
    /// Looks after the store until stopped. Failures are said and tried again: the bus keeps what is not published.
    pub(crate) async fn maintain(self: Arc<Self>, stop: CancellationToken) -> Result<(), TsdbError> {
        let mut duties = Duties::new(Instant::now());
        let mut pause = Duration::ZERO;
        loop {
            tokio::select! {
                () = tokio::time::sleep(TICK.max(pause)) => {}
                () = self.head_is_full.notified(), if pause.is_zero() => {}
                () = stop.cancelled() => return Ok(()),
            }
            self.observe();
            let could_publish = self.look_after(&mut duties, Instant::now()).await?;
            pause = if could_publish { Duration::ZERO } else { PAUSE };
        }
    }

    /// Does what is due. Answers whether nothing kept the head from being published.
    pub(crate) async fn look_after(&self, duties: &mut Duties, now: Instant) -> Result<bool, TsdbError> {
        if now - duties.tidied >= TIDY_EVERY {
            duties.tidied = now;
            duties.wants_merge = true;
            tell(self.expire().await, "expired parts could not be dropped; it is tried again")?;
        }
        if duties.age.is_due(self.store.head_stats(), now) {
            let published = self.publish().await;
            if !tell(published, "the store could not write; it tries again, the bus keeps what is missing")? {
                self.counters.failed_publishings.inc();
                return Ok(false);
            }
        }
        if std::mem::take(&mut duties.wants_merge) {
            self.merge(Effort::Due, None).await?;
        }
        Ok(true)
    }

    fn observe(&self) {
        let (head, (parts, samples, bytes)) = (self.store.head_stats(), self.store.part_stats());
        let counters = &self.counters;
        counters.head_series.set(head.series as i64);
        counters.head_samples.set(head.samples as i64);
        counters.head_bytes.set(head.bytes as i64);
        counters.parts.set(parts as i64);
        counters.part_samples.set(samples as i64);
        counters.part_bytes.set(bytes as i64);
        counters.unreadable_parts.set(self.store.unreadable_parts() as i64);
        let (written, directories) = (self.store.written_bytes(), self.store.directory_stats());
        let (read, refused) = self.store.read_metric_counts();
        counters.directory_bytes.set(directories.bytes as i64);
        counters.read_metrics.set(read as i64);
        for (counter, value) in [
            (&counters.flushed_bytes, written.flushed.load(Ordering::Relaxed)),
            (&counters.merged_bytes, written.merged.load(Ordering::Relaxed)),
            (&counters.directory_loads, directories.loads),
            (&counters.directory_evictions, directories.evictions),
            (&counters.merges_waited_ms, self.store.merges_waited().as_millis() as u64),
            (&counters.created_series, self.store.created_series()),
            (&counters.read_metrics_refused, refused),
        ] {
            counter.inc_by(value.saturating_sub(counter.get()));
        }
        counters.known_series.set(self.known.len() as i64);
        counters.metadata_refused.set(self.store.metadata_refused() as i64);
    }

    /// Publishes everything that is applied, and lets the bus drop it. A head that failed before goes first and is
    /// released by itself: on a full disk what that frees is what the next one needs.
    pub(crate) async fn publish(&self) -> Result<(), TsdbError> {
        if self.store.has_frozen() {
            self.publish_one().await?;
        }
        self.publish_one().await
    }

    async fn publish_one(&self) -> Result<(), TsdbError> {
        let next = self.with_store(Store::publish).await?;
        for (partition, offset) in next {
            self.bus.release(Topic::Metrics, partition, offset);
        }
        self.counters.publishings.inc();
        self.published.notify_waiters();
        Ok(())
    }

    /// Does every merge that is due, or all. One that fails is said and tried again later; only a panic is an error.
    pub(crate) async fn merge(&self, effort: Effort, work: Option<&Work>) -> Result<(), TsdbError> {
        for done in 0.. {
            if let Some(work) = work {
                let due = self.with_store(move |store| Ok(store.merges_due(now_ms(), effort))).await?;
                work.is_at(done, done + due as u64, "merges");
            }
            match self.with_store(move |store| store.merge_one(now_ms(), effort)).await {
                Ok(true) => self.counters.merges.inc(),
                Ok(false) => return Ok(()),
                failed => {
                    tell(failed.map(drop), "parts could not be merged; other days go on")?;
                    self.counters.failed_merges.inc()
                }
            };
        }
        Ok(())
    }

    async fn expire(&self) -> Result<(), TsdbError> {
        let retention = self.options.retention.clone();
        self.with_store(move |store| {
            store.forget_inactive(now_ms());
            store.drop_expired(|tenant| retention.oldest_ms(tenant, now_ms()))?;
            retention.max_bytes.map_or(Ok(0), |bytes| store.drop_oversize(bytes)).map(drop)
        })
        .await
    }

    async fn with_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, TsdbError> {
        let store = self.store.clone();
        Ok(tokio::task::spawn_blocking(move || work(&store)).await??)
    }

    /// Waits while the head is past its bound.
    pub(crate) async fn room_in_head(&self) {
        loop {
            let published = self.published.notified();
            let stats = self.store.head_stats();
            if stats.samples >= REPLAY_SAMPLES || stats.bytes >= REPLAY_BYTES {
                self.head_is_full.notify_one();
            }
            if stats.samples < MAX_BUDGETS * REPLAY_SAMPLES && stats.bytes < MAX_BUDGETS * REPLAY_BYTES {
                return;
            }
            published.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The head is looked at every so many seconds; each must answer as expected.
    fn check(looks: &[(u64, usize, bool)]) {
        let start = Instant::now();
        let mut age = HeadAge::new(start);
        for (second, samples, expected) in looks {
            let stats = HeadStats { samples: *samples, ..HeadStats::default() };
            assert_eq!(age.is_due(stats, start + Duration::from_secs(*second)), *expected, "{second} s in {looks:?}");
        }
    }

    /// An idle store whose publishing failed took its head for empty, and never tried again.
    #[test]
    fn a_head_that_failed_stays_due() {
        let disk = disk::FakeDisk::new();
        let store = Store::open(Arc::new(disk.clone()), "tsdb".as_ref(), "bus").expect("opened");
        let one = model::SeriesSamples::new(
            model::Labels::from_pairs([("__name__", "x")]),
            vec![model::Sample { t_ms: 1, value: 1.0 }],
        );
        store.apply(0, 0, &model::MetricBatch::new("t", vec![one]), i64::MIN, 1);
        let start = Instant::now();
        let mut age = HeadAge::new(start);
        assert!(!age.is_due(store.head_stats(), start));
        assert!(age.is_due(store.head_stats(), start + MAX_IDLE));
        disk.set_free_bytes(Some(0));
        assert!(store.publish().is_err());
        assert!(age.is_due(store.head_stats(), start + MAX_IDLE + PAUSE));
        disk.set_free_bytes(None);
        store.publish().expect("published");
        assert!(!age.is_due(store.head_stats(), start + MAX_IDLE + 2 * PAUSE));
    }

    #[test]
    fn heads_are_published_at_a_size_an_age_and_when_idle() {
        check(&[(0, 0, false), (1000, 0, false)]);
        check(&[(0, 10, false), (1, REPLAY_SAMPLES, true), (2, 5, false)]);
        check(&[(0, 10, false), (119, 10, false), (120, 10, true)]);
        check(&[
            (0, 1, false),
            (100, 2, false),
            (200, 3, false),
            (300, 4, false),
            (400, 5, false),
            (500, 6, false),
            (600, 7, true),
        ]);
    }
}
