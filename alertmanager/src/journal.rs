//! History as log lines, for the index: `{service_name="alertmanager", kind="notified"}`, each the JSON of an entry.
//!
//! Lines go on the bus behind the events that they tell of, at least once: a snapshot is written only when the lines of what
//! it covers are durable, and what is applied again after a crash is said again in the same words, which the store of lines
//! takes for the same line. So are those of several routers that share a topic.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bus::{Bus, Topic, append_all};
use model::{Batch, DEFAULT_TENANT, Labels, LogBatch, NS_PER_MS, Origin};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Lines of one record.
const MAX_BATCH: usize = 1_000;
/// Lines that wait. Beyond them the oldest are left out: history itself has them.
const MAX_WAITING: usize = 200_000;
const RETRY: Duration = Duration::from_secs(5);
/// How long a snapshot waits for lines.
const PATIENCE: Duration = Duration::from_secs(5);

struct Line {
    t_ns: i64,
    kind: &'static str,
    text: String,
}

#[derive(Default)]
struct Waiting {
    lines: VecDeque<Line>,
    /// All there were, those that went and those that were left out included.
    queued: u64,
    gone: u64,
}

#[derive(Default)]
pub struct Journal {
    waiting: Mutex<Waiting>,
    more: Notify,
}

impl Journal {
    pub fn push(&self, t_ms: i64, kind: &'static str, text: String) {
        let mut waiting = self.waiting.lock();
        waiting.lines.push_back(Line { t_ns: t_ms.saturating_mul(NS_PER_MS), kind, text });
        waiting.queued += 1;
        if waiting.lines.len() > MAX_WAITING {
            waiting.lines.pop_front();
            waiting.gone += 1;
        }
        self.more.notify_one();
    }

    /// How many lines there have been.
    pub fn queued(&self) -> u64 {
        self.waiting.lock().queued
    }

    /// Waits until so many are durable, on a thread that may block.
    pub fn reaches(&self, queued: u64) -> bool {
        let start = Instant::now();
        while self.waiting.lock().gone < queued {
            if start.elapsed() > PATIENCE {
                return false;
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        true
    }

    /// Puts lines on the bus as they come.
    pub async fn run(&self, bus: &dyn Bus) {
        loop {
            let (batch, count) = self.batch();
            if count == 0 {
                self.more.notified().await;
                continue;
            }
            if let Err(error) = append_all(bus, Topic::Logs, batch).await {
                tracing::warn!(%error, "history could not be written as log lines; trying again");
                tokio::time::sleep(RETRY).await;
                continue;
            }
            let mut waiting = self.waiting.lock();
            // Some may have been left out meanwhile.
            let left = count.min(waiting.lines.len());
            waiting.lines.drain(..left);
            waiting.gone += left as u64;
        }
    }

    /// The lines that are next; they stay until they are durable.
    fn batch(&self) -> (Batch, usize) {
        let mut batch = LogBatch::new(DEFAULT_TENANT.to_owned(), Origin::Pushed);
        let mut kinds: Vec<&str> = Vec::new();
        let waiting = self.waiting.lock();
        let count = waiting.lines.len().min(MAX_BATCH);
        for line in waiting.lines.iter().take(count) {
            let place = kinds.iter().position(|kind| *kind == line.kind).unwrap_or_else(|| {
                kinds.push(line.kind);
                batch.streams.push(Labels::from_pairs([("service_name", "alertmanager"), ("kind", line.kind)]));
                kinds.len() - 1
            });
            batch.push(place as u32, line.t_ns, &line.text, 0, 0);
        }
        (Batch::Logs(batch), count)
    }
}
