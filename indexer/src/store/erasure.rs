//! Erasures: lines that somebody asked to be forgotten.
//!
//! An erasure is a bus record and covers the lines that came before it: the head forgets at once; segments, and a head that
//! is being published, are read through it until a merge has written them again without those lines. Erasures are
//! numbered as they are applied, and a segment says below which number it holds nothing erased any more; so a segment
//! that is published later is never read through an erasure older than its lines.
//!
//! With several partitions each gets the record. Then it may also cover a line that was sent to another partition after it
//! and was applied before it, if that line's time is within its bounds, which lie in the past.

use std::sync::Arc;

use model::{Labels, LineDeletes, matches_all};
use query::SelectedLine;
use query::logql::{LogExpr, LogSelector, Runner, parse};
use serde::{Deserialize, Serialize};

use super::block::{Block, BlockLine};

/// Erasures that were carried out and are still listed.
pub const MAX_LISTED: usize = 100;

/// A request to forget lines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    pub id: String,
    pub tenant: String,
    /// A selector with line and label filters.
    pub query: String,
    /// Inclusive.
    pub start_ns: i64,
    pub end_ns: i64,
    pub created_ms: i64,
}

/// A request that was applied.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Erasure {
    pub number: u64,
    pub request: Request,
    selector: LogSelector,
    /// Every line of the streams, whatever it says.
    is_whole: bool,
}

/// As the manifest holds it.
#[derive(Serialize, Deserialize)]
struct Stored {
    number: u64,
    #[serde(flatten)]
    request: Request,
}

impl From<Erasure> for Stored {
    fn from(erasure: Erasure) -> Stored {
        Stored { number: erasure.number, request: erasure.request }
    }
}

impl TryFrom<Stored> for Erasure {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Erasure, String> {
        Erasure::new(stored.number, stored.request)
    }
}

impl PartialEq for Erasure {
    fn eq(&self, other: &Erasure) -> bool {
        (self.number, &self.request) == (other.number, &other.request)
    }
}

/// The selector of a request, or why it cannot be one.
pub fn selector(query: &str) -> Result<LogSelector, String> {
    match parse(query) {
        Ok(LogExpr::Log(selector)) => Ok(selector),
        Ok(LogExpr::Metric(_)) | Err(_) => Err("invalid query expression".to_owned()),
    }
}

impl Erasure {
    pub fn new(number: u64, request: Request) -> Result<Erasure, String> {
        let selector = selector(&request.query)?;
        let is_whole = selector.pipeline.is_empty();
        Ok(Erasure { number, request, selector, is_whole })
    }

    pub fn of(number: u64, deletes: &LineDeletes) -> Result<Erasure, String> {
        let LineDeletes { id, tenant, query, start_ns, end_ns, created_ms } = deletes.clone();
        Erasure::new(number, Request { id, tenant, query, start_ns, end_ns, created_ms })
    }

    /// Whether a stream's lines of `min_ns..=max_ns` may be among those it erases.
    pub fn reaches(&self, labels: &Labels, min_ns: i64, max_ns: i64) -> bool {
        self.overlaps(min_ns, max_ns) && matches_all(&self.selector.matchers, labels)
    }

    pub fn overlaps(&self, min_ns: i64, max_ns: i64) -> bool {
        self.request.start_ns <= max_ns && self.request.end_ns >= min_ns
    }

    /// Whether every line of those it reaches is erased.
    pub fn covers(&self, min_ns: i64, max_ns: i64) -> bool {
        self.is_whole && self.request.start_ns <= min_ns && self.request.end_ns >= max_ns
    }

    fn eraser(&self) -> Eraser<'_> {
        Eraser { erasure: self, runner: self.selector.pipeline.runner() }
    }
}

struct Eraser<'e> {
    erasure: &'e Erasure,
    runner: Runner<'e>,
}

impl Eraser<'_> {
    /// A line that a stage cannot make sense of is not erased.
    fn erases(&mut self, labels: &Labels, line: BlockLine<'_>) -> bool {
        let BlockLine { t_ns, text, metadata } = line;
        let Request { start_ns, end_ns, .. } = &self.erasure.request;
        (*start_ns..=*end_ns).contains(&t_ns)
            && (self.erasure.is_whole
                || self
                    .runner
                    .run(&SelectedLine { labels, metadata, t_ns, text })
                    .is_some_and(|processed| processed.labels.get("__error__").is_none()))
    }
}

/// What several erasures, all of which reach a stream, do to its lines.
pub struct Erasers<'e>(&'e Labels, Vec<Eraser<'e>>);

impl<'e> Erasers<'e> {
    pub fn new(labels: &'e Labels, erasures: &'e [Arc<Erasure>]) -> Erasers<'e> {
        Erasers(labels, erasures.iter().map(|erasure| erasure.eraser()).collect())
    }

    pub fn erase(&mut self, line: BlockLine<'_>) -> bool {
        let labels = self.0;
        self.1.iter_mut().any(|eraser| eraser.erases(labels, line))
    }

    /// The block without what is erased.
    pub fn remains(&mut self, block: &Block) -> Block {
        let mut kept = Block::default();
        for line in block.lines().filter(|line| !self.erase(*line)) {
            kept.push(line);
        }
        kept
    }
}

/// Those of a tenant that may reach lines of a stream which are older than an erasure's number.
pub fn reaching(
    erasures: &[Arc<Erasure>],
    erased_below: u64,
    labels: &Labels,
    (min_ns, max_ns): (i64, i64),
) -> Vec<Arc<Erasure>> {
    let is_due = |erasure: &&Arc<Erasure>| erasure.number >= erased_below && erasure.reaches(labels, min_ns, max_ns);
    erasures.iter().filter(is_due).cloned().collect()
}
