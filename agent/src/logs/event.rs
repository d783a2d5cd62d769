//! What the tailer hears of: its records' fates, and changes of files.

/// One path with its rotated files, while this process runs.
pub type ChainId = u64;

/// How an append ended, from good to bad.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Acknowledged,
    /// The bus will never take it; the reason was logged.
    Dropped,
    /// The agent is stopping.
    Abandoned,
}

/// All that the tailer hears of.
#[derive(Debug)]
pub enum Event {
    Shipped(ChainId, Outcome),
    /// Files changed: [`super::watch::Watch::take`] tells which.
    Changed,
    /// More is known about pods.
    Named,
    Stop,
}
