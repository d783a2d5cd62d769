//! The log index: tantivy segments under one manifest, an in-memory head, and Loki's HTTP API.
//!
//! [`Indexer`] is the service, [`store`] the storage core (synchronous, over [`disk::Disk`] and an injected clock), [`api`]
//! the edge.

mod admission;
pub mod api;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod service;
pub mod store;

pub use crate::admission::Discovery as LineDiscovery;
pub use crate::api::bulk::greeting as elasticsearch_greeting;
pub use crate::service::{Indexer, IndexerOptions};
pub use crate::store::retention::{Retention as LogRetention, StreamRetention};
pub use crate::store::{TenantStats, Verified, verify};
