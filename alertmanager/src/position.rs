//! How far the topic has been read. Our own events are on the first partition, in one order; others put theirs anywhere.

use bus::{Bus, BusError, Offset, Topic};
use tokio::sync::watch;

use crate::snapshot::Header;

/// Of our own events.
pub const PARTITION: u32 = 0;

/// A place in one partition.
pub struct Position {
    /// The offset after the last applied record.
    pub applied: watch::Sender<Offset>,
    /// The end when this process opened it.
    pub end_at_start: Offset,
}

impl Position {
    pub fn get(&self) -> Offset {
        *self.applied.borrow()
    }

    pub fn is_caught_up(&self) -> bool {
        self.get() >= self.end_at_start
    }

    pub async fn reaches(&self, offset: Offset) -> Result<(), BusError> {
        let mut applied = self.applied.subscribe();
        applied.wait_for(|applied| *applied >= offset).await.map(drop).map_err(|_| BusError::Closed)
    }
}

/// Where to go on in each partition; and why not, where the log does not hold what comes next.
pub async fn open(
    bus: &dyn Bus,
    header: &Header,
    accept_loss: bool,
) -> Result<(Vec<Position>, Option<String>), BusError> {
    let (mut positions, mut failed) = (Vec::new(), None);
    for partition in 0..bus.partitions(Topic::Alerts) {
        let start = bus.start_offset(Topic::Alerts, partition).await?;
        let end_at_start = bus.end_offset(Topic::Alerts, partition).await?;
        // Another bus is replayed from its start, over what is known: events carry whole states, a repeat changes nothing.
        let known = header.offset(partition).filter(|_| header.bus_id == bus.id());
        let mut next = known.unwrap_or(start);
        if !(start..=end_at_start).contains(&next) {
            let lost = format!("alertmanager: offset {next} is outside the log, which holds {start}..{end_at_start}");
            if accept_loss {
                tracing::warn!("{lost}; going on at {start}, as --accept-loss says");
                next = start;
            } else {
                failed = Some(format!("{lost}; start with --accept-loss to go on"));
            }
        }
        positions.push(Position { applied: watch::Sender::new(next), end_at_start });
    }
    Ok((positions, failed))
}
