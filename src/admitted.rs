//! The bus as the agent of this process writes to it: its lines are let in as those that are pushed are.

use std::sync::Arc;

use bus::{Bus, BusError, Offset, Producer, Topic, append_all};
use futures::FutureExt;
use futures::future::BoxFuture;
use indexer::{Indexer, LineDiscovery};
use model::Batch;
use service::config::{ByTenant, Config};

pub struct Admitted {
    bus: Arc<dyn Bus>,
    /// `None` where the store is another process's: then only what is found of lines is added here.
    indexer: Option<Arc<Indexer>>,
    discoveries: ByTenant<Arc<LineDiscovery>>,
}

impl Admitted {
    pub fn new(bus: Arc<dyn Bus>, indexer: Option<Arc<Indexer>>, config: &Config) -> Admitted {
        let discoveries = config.log_limits().map(|limits| Arc::new(LineDiscovery::new(limits)));
        Admitted { bus, indexer, discoveries }
    }

    /// What comes too fast waits at its source, which tries again.
    fn admit(&self, batch: Batch) -> Result<Option<Batch>, BusError> {
        let Batch::Logs(logs) = batch else { return Ok(Some(batch)) };
        let Some(indexer) = &self.indexer else {
            return Ok(Some(Batch::Logs(self.discoveries.of(&logs.tenant).of_batch(logs))));
        };
        let (admitted, refused) = indexer.admit_batch(logs).map_err(BusError::Unavailable)?;
        for reason in refused {
            tracing::warn!(reason, "lines of this machine are not taken");
        }
        Ok(admitted.map(Batch::Logs))
    }
}

impl Producer for Admitted {
    fn partitions(&self, topic: Topic) -> u32 {
        self.bus.partitions(topic)
    }

    fn append(&self, topic: Topic, partition: u32, batch: Arc<Batch>) -> BoxFuture<'_, Result<Offset, BusError>> {
        if !matches!(*batch, Batch::Logs(_)) {
            return self.bus.append(topic, partition, batch);
        }
        async move {
            // A record that has grown beyond the limit is cut; its file or streams still choose the partition.
            let Some(batch) = self.admit(Arc::unwrap_or_clone(batch))? else { return Ok(0) };
            let offsets = append_all(self.bus.as_ref(), topic, batch).await?;
            Ok(offsets.iter().map(|(_, offset)| *offset).max().unwrap_or(0))
        }
        .boxed()
    }
}
