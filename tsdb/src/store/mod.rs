//! The store: a head and immutable parts under one manifest. Synchronous; time is an argument.
//!
//! # Contracts
//! - **Visible at once.** What [`Store::apply`] took is in every answer that begins after it returned.
//! - **Once.** A sample is its series and timestamp. Whatever lies in head, frozen head and parts, an answer holds it once,
//!   and of several the one that came last on the bus.

mod cardinality;
mod columns;
mod head;
mod postings;
mod select;

use std::collections::{BTreeMap, HashMap};

use bus::Offset;
use model::MetricBatch;
use parking_lot::RwLock;

use head::Head;
pub use select::Listing;

/// A series counts as active for this long after a head last met it as new.
const ACTIVE_MS: i64 = 3_600_000;

pub struct Store {
    view: RwLock<View>,
}

/// What the lock protects: what queries see, and the offsets it stands for.
#[derive(Default)]
struct View {
    head: Head,
    /// The next offset to apply, by partition.
    next: BTreeMap<u32, Offset>,
    /// By tenant: hashes of active series, and when a head last met them as new.
    active: HashMap<String, HashMap<u64, i64>>,
}

/// Sizes of what is not yet published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeadStats {
    pub series: usize,
    pub samples: usize,
    pub bytes: usize,
}

impl Store {
    pub fn open() -> Store {
        Store { view: RwLock::default() }
    }

    /// Applies one record of a partition.
    pub fn apply(&self, partition: u32, offset: Offset, batch: &MetricBatch, oldest_ms: i64, now_ms: i64) {
        let mut view = self.view.write();
        let View { head, next, active } = &mut *view;
        let active = active.entry(batch.tenant.clone()).or_default();
        head.apply(batch, oldest_ms, |hash| {
            active.insert(hash, now_ms);
        });
        next.insert(partition, offset + 1);
    }

    /// How many more series a tenant may begin, and whether one of this hash is known already.
    pub fn active_series(&self, tenant: &str) -> usize {
        self.view.read().active.get(tenant).map_or(0, HashMap::len)
    }

    pub fn is_active(&self, tenant: &str, hash: u64) -> bool {
        self.view.read().active.get(tenant).is_some_and(|active| active.contains_key(&hash))
    }

    /// Forgets series that no head met for a while.
    pub fn forget_inactive(&self, now_ms: i64) {
        for active in self.view.write().active.values_mut() {
            active.retain(|_, met_ms| *met_ms >= now_ms - ACTIVE_MS);
        }
    }

    pub fn head_stats(&self) -> HeadStats {
        let head = &self.view.read().head;
        HeadStats { series: head.series(), samples: head.samples(), bytes: head.bytes() }
    }
}
