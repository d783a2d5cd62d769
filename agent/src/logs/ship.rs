//! From a batch to the bus: retried until it is durable.
//!
//! An append that fails says nothing about the record, or that it was refused for now: both are tried again for ever, with
//! a growing pause, while the path that it belongs to stands still. Ranges make repeats harmless.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use bus::{BusError, Producer, Topic};
use model::Batch;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::event::{ChainId, Event, Outcome};

const MIN_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub struct Shipper {
    pub producer: Arc<dyn Producer>,
    pub runtime: Handle,
    pub stop: CancellationToken,
    pub events: Sender<Event>,
}

impl Shipper {
    /// Appends a batch of a chain and reports the outcome as an event.
    pub fn ship(&self, chain: ChainId, batch: Batch) {
        let this = self.clone();
        self.runtime.spawn(async move {
            let outcome = append(this.producer.as_ref(), batch, &this.stop).await;
            // The tailer is gone only when the agent is.
            let _ = this.events.send(Event::Shipped(chain, outcome));
        });
    }
}

/// Appends a batch's records until each is durable, never can be, or `stop` is cancelled. The worst outcome counts.
pub async fn append(producer: &dyn Producer, batch: Batch, stop: &CancellationToken) -> Outcome {
    let records = bus::route(batch, producer.partitions(Topic::Logs)).into_iter();
    let appends = records.map(|(partition, record)| append_record(producer, partition, Arc::new(record), stop));
    futures::future::join_all(appends).await.into_iter().max().unwrap_or(Outcome::Acknowledged)
}

async fn append_record(
    producer: &dyn Producer,
    partition: u32,
    record: Arc<Batch>,
    stop: &CancellationToken,
) -> Outcome {
    let mut pause = MIN_PAUSE;
    loop {
        let appended = tokio::select! {
            biased;
            appended = producer.append(Topic::Logs, partition, record.clone()) => appended,
            () = stop.cancelled() => return Outcome::Abandoned,
        };
        match appended {
            Ok(_) => return Outcome::Acknowledged,
            Err(error @ (BusError::TooLarge { .. } | BusError::Corrupt(_))) => {
                tracing::error!(%error, "log lines were dropped: the bus does not take them");
                return Outcome::Dropped;
            }
            Err(error) if pause >= MAX_PAUSE => {
                tracing::warn!(%error, "log lines are refused by the bus; trying again")
            }
            Err(error) => tracing::debug!(%error, "log lines are not taken yet"),
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return Outcome::Abandoned,
        }
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

impl Shipper {
    /// Tells the stores that files are gone. Should it not arrive, stores keep some ranges for longer, nothing else.
    pub fn forget(&self, files: model::ForgetFiles) {
        let this = self.clone();
        self.runtime.spawn(async move {
            append(this.producer.as_ref(), Batch::ForgetFiles(files), &this.stop).await;
        });
    }
}
