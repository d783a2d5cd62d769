//! The time-series store: a view of the topic `metrics`, answering PromQL over Prometheus' HTTP API.
//!
//! # Contracts
//! - **Acknowledgement.** A write is answered once its samples are durable on the bus; the store keeps no log of its own.
//!   After `kill -9` it goes on from the offsets of its manifest, so nothing acknowledged is lost or seen twice.
//! - **Refusal** happens before the bus: what is malformed, out of bounds or over a limit is named in the answer, the rest
//!   is taken.
//! - **Loss is never silent.** An offset outside the log halts the store, not ready, until [`Options::accept_loss`].
//! - **Strong reads** take the acknowledged end of every partition and wait until the store has applied it.
//!
//! `store/` is the synchronous core, `ingest.rs` admits, `known.rs` remembers label sets, `pairs.rs` takes one of
//! two senders, `consume.rs` applies, `maintenance.rs` publishes,
//! `service.rs` holds it together, `api/` is HTTP.

mod api;
mod consume;
#[doc(hidden)]
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod ingest;
mod known;
mod maintenance;
mod pairs;
mod retention;
mod service;
mod store;
#[cfg(test)]
mod tests;

pub use ingest::AppendError;
pub use retention::Retention;
pub use service::{Logs, Options, Tsdb, TsdbError};
pub use store::{Cardinality, PartInfo, StoreError, TenantStats, verify};
