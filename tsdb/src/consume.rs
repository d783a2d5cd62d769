//! From the bus into the store: one task per partition applies records in offset order.
//!
//! # When the bus fails
//! - Unavailable, or an I/O error: said, and tried again after a pause from the offset that is next.
//! - An offset outside the log: records that were acknowledged are gone. With [`Options::accept_loss`] the store goes on
//!   from the log's start, whichever end it missed: a sample is its series and timestamp, so what it had already is not
//!   seen twice, and nothing that the log holds is left out. Without it the store halts.
//! - A corrupt record halts the store.
//!
//! A halted store consumes nothing more, says why when asked whether it is ready and on strong reads, and answers others
//! from what it has. Publishing, merges and retention go on.
//!
//! [`Options::accept_loss`]: crate::Options::accept_loss

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, BusError, Offset, Topic};
use model::{Batch, now_ms};
use tokio_util::sync::CancellationToken;

use crate::store::Store;
use crate::{Options, Tsdb, TsdbError};

/// How long a bus that failed is left alone.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// How far the store has come.
#[derive(Debug)]
pub(crate) struct Progress {
    /// The next offset to apply, by partition.
    pub next: Vec<Offset>,
    /// Why nothing is consumed any more.
    pub halted: Option<String>,
}

impl Progress {
    /// Where each partition goes on, and the ends that a ready store must reach.
    pub async fn at_start(
        store: &Store,
        bus: &dyn Bus,
        options: &Options,
    ) -> Result<(Progress, Vec<Offset>), TsdbError> {
        let (mut progress, mut ends) = (Progress { next: Vec::new(), halted: None }, Vec::new());
        for partition in 0..bus.partitions(Topic::Metrics) {
            let start = bus.start_offset(Topic::Metrics, partition).await?;
            let end = bus.end_offset(Topic::Metrics, partition).await?;
            let mut next = store.next(partition).unwrap_or(start);
            if !(start..=end).contains(&next) {
                if options.accept_loss {
                    tracing::warn!(partition, offset = next, start, end, "records are lost; going on from the start");
                    store.restart_at(partition, start);
                    // The next process need not accept the same loss again.
                    store.publish()?;
                    next = start;
                } else {
                    progress.halted = progress.halted.or(Some(outside(next, start, end)));
                }
            }
            progress.next.push(next);
            ends.push(end);
        }
        if let Some(reason) = &progress.halted {
            tracing::error!(reason, "the store consumes nothing");
        }
        Ok((progress, ends))
    }
}

fn outside(wanted: Offset, start: Offset, end: Offset) -> String {
    format!(
        "metrics: offset {wanted} is outside the log, which holds {start}..{end}; start with --accept-loss to go on"
    )
}

impl Tsdb {
    /// Applies a partition's records until stopped or halted. Fails when the bus is closed.
    pub(crate) async fn consume(self: Arc<Self>, partition: u32, stop: CancellationToken) -> Result<(), TsdbError> {
        loop {
            let Err(error) = tokio::select! {
                ended = self.follow(partition) => ended,
                () = stop.cancelled() => return Ok(()),
                () = self.halt.cancelled() => return Ok(()),
            };
            match error {
                BusError::OutOfRange { wanted, start, end, .. } if self.options.accept_loss => {
                    tracing::warn!(partition, offset = wanted, start, end, "records are lost; going on from the start");
                    self.store.restart_at(partition, start);
                    self.progress.send_modify(|progress| progress.next[partition as usize] = start);
                }
                BusError::OutOfRange { wanted, start, end, .. } => {
                    self.halt(outside(wanted, start, end));
                    return Ok(());
                }
                BusError::Corrupt(reason) => {
                    self.halt(format!("metrics: a record of partition {partition} is corrupt: {reason}"));
                    return Ok(());
                }
                BusError::Unavailable(_) | BusError::Io { .. } => {
                    tracing::warn!(partition, %error, "the bus failed; it is tried again");
                }
                error => return Err(error.into()),
            }
            tokio::select! {
                () = tokio::time::sleep(self.retry_pause) => {}
                () = stop.cancelled() => return Ok(()),
            }
        }
    }

    /// Applies records until the bus fails. Cancelling it loses nothing: a record is applied and counted in one go.
    async fn follow(&self, partition: u32) -> Result<Infallible, BusError> {
        let from = self.progress.borrow().next[partition as usize];
        let mut consumer = self.bus.subscribe(Topic::Metrics, partition, from).await?;
        loop {
            self.room_in_head().await;
            let delivery = consumer.next().await?;
            match delivery.batch.as_ref() {
                Batch::Metrics(batch) => {
                    let now_ms = now_ms();
                    let oldest_ms = self.options.retention.oldest_ms(&batch.tenant, now_ms);
                    self.store.apply(partition, delivery.offset, batch, oldest_ms, now_ms);
                    self.counters.applied.inc_by(batch.sample_count() as u64);
                }
                Batch::Deletes(deletes) => self.store.delete(partition, delivery.offset, deletes),
                Batch::Logs(_) | Batch::ForgetFiles(_) | Batch::Alerts(_) | Batch::LineDeletes(_) => {}
            }
            self.progress.send_modify(|progress| progress.next[partition as usize] = delivery.offset + 1);
        }
    }

    /// Stops consuming until the next start.
    fn halt(&self, reason: String) {
        tracing::error!(reason, "the store consumes nothing more");
        self.progress.send_modify(|progress| progress.halted = progress.halted.take().or(Some(reason)));
        self.halt.cancel();
    }
}
