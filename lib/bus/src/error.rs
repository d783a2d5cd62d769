//! Why the bus refused or failed.

use std::io;
use std::path::PathBuf;

use crate::{Offset, Topic};

#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// Nothing was taken; try again later (HTTP 503).
    #[error("the bus topic {} is full: {reason}", topic.name())]
    Full { topic: Topic, reason: String },
    /// Nothing can be said about the record; it may or may not be durable. Try again (HTTP 503).
    #[error("the bus is unavailable: {0}")]
    Unavailable(String),
    #[error("a record of {bytes} bytes is over the limit of {} bytes", crate::MAX_RECORD_BYTES)]
    TooLarge { bytes: usize },
    #[error("offset {wanted} of {} is outside the log, which holds {start}..{end}", topic.name())]
    OutOfRange { topic: Topic, wanted: Offset, start: Offset, end: Offset },
    #[error("corrupt record: {0}")]
    Corrupt(String),
    #[error("{context}: {}: {source}", path.display())]
    Io { context: &'static str, path: PathBuf, source: io::Error },
    #[error("the bus is closed")]
    Closed,
}
