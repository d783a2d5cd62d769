//! An embedded log that several read: what the store has published stays until the others have read it too.
//!
//! A reader says how far it has come ([`HeldBus::hold`]); records are let go of when the store and every reader are past
//! them. A reader that is too far behind holds nothing: above `max_held_bytes` of a topic the store alone decides, so that
//! a receiver that is away never stops what comes in. Such a reader finds its offset outside the log, and says so.

use std::collections::HashMap;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use model::Batch;
use parking_lot::Mutex;

use crate::{Bus, BusError, Consumer, EmbeddedBus, Offset, Producer, Topic};

pub struct HeldBus {
    inner: Arc<EmbeddedBus>,
    max_held_bytes: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What the stores have published; without one, everything.
    published: HashMap<Topic, Offset>,
    /// By topic and reader.
    held: HashMap<(Topic, String), Offset>,
}

impl HeldBus {
    /// `stored` are the topics that have a store in this process; of the others only readers hold anything.
    pub fn new(inner: Arc<EmbeddedBus>, stored: &[Topic], max_held_bytes: u64) -> HeldBus {
        let published =
            Topic::ALL.into_iter().filter(|topic| !stored.contains(topic)).map(|topic| (topic, Offset::MAX));
        let state = State { published: published.collect(), held: HashMap::new() };
        HeldBus { inner, max_held_bytes, state: Mutex::new(state) }
    }

    /// A reader needs what begins at `from`.
    pub fn hold(&self, topic: Topic, reader: &str, from: Offset) {
        self.state.lock().held.insert((topic, reader.to_owned()), from);
        self.let_go(topic);
    }

    /// Readers that are no more need nothing.
    pub fn retain(&self, topic: Topic, is_there: impl Fn(&str) -> bool) {
        self.state.lock().held.retain(|(of, reader), _| *of != topic || is_there(reader));
        self.let_go(topic);
    }

    fn let_go(&self, topic: Topic) {
        let Some(stats) = self.inner.stats().into_iter().find(|stats| stats.topic == topic) else { return };
        let state = self.state.lock();
        let published = state.published.get(&topic).copied().unwrap_or(0).min(stats.end_offset);
        let held = state.held.iter().filter(|((of, _), _)| *of == topic).map(|(_, offset)| *offset).min();
        let upto =
            held.filter(|_| stats.retained_bytes <= self.max_held_bytes).map_or(published, |held| held.min(published));
        self.inner.release(topic, 0, upto);
    }
}

impl Producer for HeldBus {
    fn partitions(&self, topic: Topic) -> u32 {
        self.inner.partitions(topic)
    }

    fn append(&self, topic: Topic, partition: u32, batch: Arc<Batch>) -> BoxFuture<'_, Result<Offset, BusError>> {
        self.inner.append(topic, partition, batch)
    }
}

impl Bus for HeldBus {
    fn id(&self) -> String {
        self.inner.id()
    }

    fn end_offset(&self, topic: Topic, partition: u32) -> BoxFuture<'_, Result<Offset, BusError>> {
        self.inner.end_offset(topic, partition)
    }

    fn start_offset(&self, topic: Topic, partition: u32) -> BoxFuture<'_, Result<Offset, BusError>> {
        self.inner.start_offset(topic, partition)
    }

    fn subscribe(
        &self,
        topic: Topic,
        partition: u32,
        from: Offset,
    ) -> BoxFuture<'_, Result<Box<dyn Consumer>, BusError>> {
        self.inner.subscribe(topic, partition, from).boxed()
    }

    fn release(&self, topic: Topic, _partition: u32, upto: Offset) {
        {
            let mut state = self.state.lock();
            let published = state.published.entry(topic).or_default();
            *published = upto.max(*published);
        }
        self.let_go(topic);
    }
}

#[cfg(test)]
mod tests {
    use disk::RealDisk;
    use model::{Labels, MetricBatch, Sample, SeriesSamples};

    use super::*;
    use crate::EmbeddedOptions;

    /// A log with a segment for each record, so that each can be let go of.
    async fn filled(dir: &std::path::Path, stored: &[Topic], max_held_bytes: u64) -> HeldBus {
        let options = EmbeddedOptions { segment_bytes: 1, ..EmbeddedOptions::default() };
        let inner = EmbeddedBus::open(Arc::new(RealDisk), dir, options).expect("opened");
        let bus = HeldBus::new(Arc::new(inner), stored, max_held_bytes);
        for value in 0..10 {
            let sample = Sample { t_ms: 1, value: f64::from(value) };
            let series = SeriesSamples::new(Labels::from_pairs([("__name__", "a")]), vec![sample]);
            let batch = Batch::Metrics(MetricBatch::new("t", vec![series]));
            bus.append(Topic::Metrics, 0, Arc::new(batch)).await.expect("appended");
        }
        bus
    }

    /// Waits until the log begins there.
    async fn check(bus: &HeldBus, expected: Offset) {
        let reached = async {
            loop {
                let start = bus.start_offset(Topic::Metrics, 0).await.expect("a start");
                assert!(start <= expected, "{start} is past {expected}");
                if start == expected {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), reached).await.expect("it is let go of");
    }

    #[tokio::test]
    async fn the_slowest_reader_decides() {
        let dir = tempfile::tempdir().expect("a directory");
        let bus = filled(dir.path(), &[Topic::Metrics], u64::MAX).await;
        bus.hold(Topic::Metrics, "a", 3);
        bus.release(Topic::Metrics, 0, 8);
        check(&bus, 3).await;
        bus.hold(Topic::Metrics, "b", 5);
        bus.hold(Topic::Metrics, "a", 7);
        check(&bus, 5).await;
        bus.retain(Topic::Metrics, |reader| reader != "b");
        check(&bus, 7).await;
        bus.retain(Topic::Metrics, |_| false);
        check(&bus, 8).await;
    }

    #[tokio::test]
    async fn one_that_is_too_far_behind_holds_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let bus = filled(dir.path(), &[Topic::Metrics], 10).await;
        bus.hold(Topic::Metrics, "a", 1);
        bus.release(Topic::Metrics, 0, 6);
        check(&bus, 6).await;
    }

    #[tokio::test]
    async fn without_a_store_readers_decide() {
        let dir = tempfile::tempdir().expect("a directory");
        let bus = filled(dir.path(), &[], u64::MAX).await;
        bus.hold(Topic::Metrics, "a", 4);
        check(&bus, 4).await;
    }
}
