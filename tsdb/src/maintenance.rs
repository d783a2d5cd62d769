//! Maintenance: when heads are published, parts merged and days dropped.
//!
//! A head is published at a replay budget, at an age, or when nothing comes any more. While a publishing fails or lags,
//! the head grows up to a bound; past it the store stops taking records, which wait on the bus.

use std::sync::Arc;
use std::time::Duration;

use bus::Topic;
use model::now_ms;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::store::{HeadStats, Store, StoreError};
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
/// How often merges, retention and inactive series are looked after.
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

impl Tsdb {
    /// Looks after the store until stopped. Failures are said and tried again: the bus keeps what is not published.
    pub(crate) async fn maintain(self: Arc<Self>, stop: CancellationToken) -> Result<(), TsdbError> {
        let mut age = HeadAge::new(Instant::now());
        let mut tidied = Instant::now();
        let mut pause = Duration::ZERO;
        loop {
            tokio::select! {
                () = tokio::time::sleep(TICK.max(pause)) => {}
                () = self.head_is_full.notified(), if pause.is_zero() => {}
                () = stop.cancelled() => return Ok(()),
            }
            pause = Duration::ZERO;
            self.observe();
            let now = Instant::now();
            let mut done = Ok(());
            if age.is_due(self.store.head_stats(), now) {
                done = self.publish().await;
            }
            if done.is_ok() && now - tidied >= TIDY_EVERY {
                tidied = now;
                done = self.tidy().await;
            }
            if let Err(error) = done {
                self.counters.failed_publishings.inc();
                tracing::warn!(%error, "the store could not write; it tries again, and the bus keeps what is missing");
                pause = PAUSE;
            }
        }
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
    }

    /// Publishes everything that is applied, and lets the bus drop it.
    pub(crate) async fn publish(&self) -> Result<(), TsdbError> {
        let next = self.with_store(Store::publish_all).await?;
        for (partition, offset) in next {
            self.bus.release(Topic::Metrics, partition, offset);
        }
        self.counters.publishings.inc();
        self.published.notify_waiters();
        Ok(())
    }

    /// Does every merge that is due.
    pub(crate) async fn merge(&self) -> Result<(), TsdbError> {
        while self.with_store(|store| store.merge_one(now_ms())).await? {
            self.counters.merges.inc();
        }
        Ok(())
    }

    async fn tidy(&self) -> Result<(), TsdbError> {
        let retention_ms = self.options.retention_ms;
        self.with_store(move |store| {
            store.forget_inactive(now_ms());
            store.drop_expired(now_ms().saturating_sub(retention_ms))
        })
        .await?;
        self.merge().await
    }

    async fn with_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, TsdbError> {
        let store = self.store.clone();
        let worked = tokio::task::spawn_blocking(move || work(&store)).await;
        Ok(worked.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?)
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
