//! Blocks that a query may need.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use model::Labels;
use query::{LineSelect, QueryError};

use super::erasure::{Erasers, Erasure};
use super::error::StoreError;
use super::opened::{OpenBlock, Place, Sought};

/// A block that may hold wanted lines.
#[derive(Clone)]
pub struct Candidate {
    pub labels: Labels,
    pub pushed: bool,
    pub min_ns: i64,
    pub max_ns: i64,
    /// Where its lines stand among those of the same instant: its source, and its number there.
    pub rank: (u64, u64),
    pub lines: u64,
    pub text_bytes: u64,
    pub place: Place,
    /// Lines that are older are beyond retention.
    pub oldest_ns: i64,
    /// What is not to be seen of it.
    pub erasures: Vec<Arc<Erasure>>,
    pub budget: Arc<Budget>,
}

/// How much text the blocks may have that one query reads, and how much they had.
#[derive(Debug, Default)]
pub struct Budget {
    /// 0: no limit.
    limit_bytes: u64,
    read_bytes: AtomicU64,
}

impl Budget {
    pub fn new(limit_bytes: u64) -> Budget {
        Budget { limit_bytes, ..Budget::default() }
    }

    fn spend(&self, bytes: u64) -> Result<(), QueryError> {
        let read = self.read_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if self.limit_bytes == 0 || read <= self.limit_bytes {
            return Ok(());
        }
        let message = format!(
            "the query would read too many bytes (query: {read} B, limit: {} B); consider adding more specific stream \
             selectors or reduce the time range of the query",
            self.limit_bytes
        );
        Err(QueryError::Refused { limit: "bytes_read", message })
    }
}

impl Candidate {
    /// Asked before it is opened: whether there is time for it, and its text may be read.
    pub fn check(&self, request: &LineSelect<'_>) -> Result<(), QueryError> {
        check_deadline(request.deadline)?;
        self.budget.spend(self.text_bytes)
    }

    /// The block, opened; `None` where it cannot be read, which is reported.
    pub fn open(&self, request: &LineSelect<'_>, sought: &Sought) -> Option<OpenBlock> {
        let start_ns = request.start_ns.max(self.oldest_ns);
        let opened = OpenBlock::open(self.place.clone(), start_ns, request.end_ns, sought);
        let seen = opened.and_then(|mut opened| {
            if !self.erasures.is_empty() {
                opened.erase(&mut Erasers::new(&self.labels, &self.erasures))?;
            }
            Ok(opened)
        });
        seen.map_err(|error| self.report(&error)).ok()
    }

    pub fn report(&self, error: &StoreError) {
        match &self.place {
            Place::Segment(segment, block) => segment.report(*block, error),
            Place::Head(_) => unreachable!("what is in memory is not damaged: {error}"),
        }
    }
}

pub fn check_deadline(deadline: Option<Instant>) -> Result<(), QueryError> {
    match deadline {
        Some(deadline) if Instant::now() > deadline => Err(QueryError::Timeout("reading logs")),
        _ => Ok(()),
    }
}
