//! From the bus to the shards of one receiver, and its checkpoint behind them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bus::{BusError, Delivery, Offset, Topic, partition_for};
use model::{Batch, Label, Labels, METRIC_NAME, MetricBatch, hash_pairs, relabel};
use parking_lot::Mutex;
use service::config::RemoteMessage;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::counters::{Counters, RemoteCounters};
use super::progress::{Progress, ProgressFile};
use super::shard::{Item, KnownMetadata, Sent, Shard, Waiting, Work, remember};
use super::{Remote, Surroundings};

/// More shards are not begun, whatever `max_shards` says: each has one request under way.
const MAX_SHARDS: usize = 8;
/// Records that wait for a shard.
const MAX_WAITING: usize = 4;
/// How often a checkpoint is written, at most.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// A bus that failed is left alone for so long.
const RETRY_PAUSE: Duration = Duration::from_secs(5);
/// How long requests may go on after a stop.
const LAST_REQUESTS: Duration = Duration::from_secs(2);
/// Label sets whose relabelled form is remembered.
const MAX_RELABELLED: usize = 200_000;

type Done = watch::Receiver<BTreeMap<u32, Offset>>;

/// Sends to one receiver until `stop`, and saves how far it came.
pub async fn run(remote: Arc<Remote>, around: Arc<Surroundings>, stop: CancellationToken) {
    let file = ProgressFile::new(&around, &remote);
    let from = loop {
        match start_of(&remote, &around, &file).await {
            Ok(from) => break from,
            Err(error) => tracing::error!(error, remote = remote.name, "remote_write does not begin"),
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY_PAUSE) => {}
            () = stop.cancelled() => return,
        }
    };
    let queue = &remote.config.queue_config;
    let count = queue.max_shards.min(MAX_SHARDS).max(queue.min_shards);
    let counters = around.counters.of(&remote, count);
    let (mut shards, mut senders, mut done, known) = (JoinSet::new(), Vec::new(), Vec::new(), KnownMetadata::default());
    for _ in 0..count {
        let (sender, work) = mpsc::channel(MAX_WAITING);
        let marks = watch::Sender::new(from.clone());
        done.push(marks.subscribe());
        senders.push(sender);
        let (remote, counters, known) = (remote.clone(), counters.clone(), known.clone());
        shards.spawn(Shard { remote, counters, known, work, done: marks, waiting: Waiting::default() }.run());
    }
    let readers = from.iter().map(|(partition, from)| {
        let renamed = Mutex::new(HashMap::new());
        let reader = Reader {
            remote: &remote,
            around: &around,
            counters: &counters,
            all: &around.counters,
            senders: &senders,
            known: &known,
            renamed,
        };
        reader.run(*partition, *from)
    });
    tokio::select! {
        _ = futures::future::join_all(readers) => {}
        () = save_often(&file, &around, &remote, &mut done) => {}
        () = stop.cancelled() => {}
    }
    // What is under way may arrive, so that the next process does not send it again.
    drop(senders);
    let _ = tokio::time::timeout(LAST_REQUESTS, async { while shards.join_next().await.is_some() {} }).await;
    shards.abort_all();
    while shards.join_next().await.is_some() {}
    counters.pending.set(0);
    save(&file, &around, &remote, &mut done);
}

/// Where each partition goes on: at the checkpoint, or with what comes from now on.
async fn start_of(
    remote: &Remote,
    around: &Surroundings,
    file: &ProgressFile,
) -> Result<BTreeMap<u32, Offset>, String> {
    let known = file.load()?.filter(|progress| progress.bus == around.bus.id());
    let mut from = BTreeMap::new();
    for partition in 0..around.bus.partitions(Topic::Metrics) {
        let end = around.bus.end_offset(Topic::Metrics, partition).await.map_err(|error| error.to_string())?;
        let saved = known.as_ref().and_then(|progress| progress.next.get(&partition).copied());
        from.insert(partition, saved.unwrap_or(end));
    }
    let progress = Progress::new(around.bus.id(), from.clone());
    file.save(&progress)?;
    if let (Some(held), Some(from)) = (&around.held, from.get(&0)) {
        held.hold(Topic::Metrics, &remote.name, *from);
    }
    Ok(from)
}

/// The next offsets that not every shard is done with.
fn reached(done: &mut [Done]) -> BTreeMap<u32, Offset> {
    let mut least = BTreeMap::new();
    for marks in done {
        for (partition, offset) in marks.borrow_and_update().iter() {
            let known = least.entry(*partition).or_insert(*offset);
            *known = (*known).min(*offset);
        }
    }
    least
}

fn save(file: &ProgressFile, around: &Surroundings, remote: &Remote, done: &mut [Done]) {
    let next = reached(done);
    let offset = next.get(&0).copied();
    if let Err(error) = file.save(&Progress::new(around.bus.id(), next)) {
        tracing::warn!(error, "remote_write: the checkpoint is not saved");
        return;
    }
    if let (Some(held), Some(offset)) = (&around.held, offset) {
        held.hold(Topic::Metrics, &remote.name, offset);
    }
}

/// Saves for ever, whenever something was sent.
async fn save_often(file: &ProgressFile, around: &Surroundings, remote: &Remote, done: &mut [Done]) {
    let mut saved = reached(done);
    loop {
        let changes: Vec<_> = done.iter_mut().map(|marks| Box::pin(marks.changed())).collect();
        let _ = futures::future::select_all(changes).await;
        tokio::time::sleep(SAVE_EVERY).await;
        let now = reached(done);
        if now != saved {
            save(file, around, remote, done);
            saved = now;
        }
    }
}

struct Reader<'a> {
    remote: &'a Remote,
    around: &'a Surroundings,
    counters: &'a RemoteCounters,
    all: &'a Counters,
    senders: &'a [mpsc::Sender<Work>],
    known: &'a KnownMetadata,
    /// Label sets as they are sent; none where they are dropped.
    renamed: Mutex<HashMap<Labels, Option<Labels>>>,
}

impl Reader<'_> {
    /// Reads a partition for ever; ends when no shard takes anything any more.
    async fn run(self, partition: u32, mut next: Offset) {
        loop {
            match self.follow(partition, &mut next).await {
                Ok(()) => return,
                Err(BusError::OutOfRange { wanted, start, .. }) => {
                    self.counters.skipped.inc_by(start.saturating_sub(wanted));
                    tracing::error!(
                        remote = self.remote.name,
                        wanted,
                        start,
                        "remote_write: records are gone before they were sent; going on from the start of the log"
                    );
                    next = start;
                }
                Err(error) => {
                    tracing::warn!(%error, remote = self.remote.name, "remote_write: the bus failed; it is tried again");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    async fn follow(&self, partition: u32, next: &mut Offset) -> Result<(), BusError> {
        let mut consumer = self.around.bus.subscribe(Topic::Metrics, partition, *next).await?;
        loop {
            let delivery = consumer.next().await?;
            let offset = delivery.offset;
            for (sender, work) in self.senders.iter().zip(self.divide(partition, &delivery)) {
                if sender.send(work).await.is_err() {
                    return Ok(());
                }
            }
            *next = offset + 1;
        }
    }

    /// What each shard has to do of a record.
    fn divide(&self, partition: u32, delivery: &Delivery) -> Vec<Work> {
        let Delivery { offset, batch } = delivery;
        let tenant: Arc<str> = match batch.as_ref() {
            Batch::Metrics(batch) => batch.tenant.as_str().into(),
            _ => "".into(),
        };
        let work =
            || Work { items: Vec::new(), metadata: Vec::new(), tenant: tenant.clone(), partition, offset: *offset };
        let mut shares: Vec<Work> = self.senders.iter().map(|_| work()).collect();
        let Batch::Metrics(metrics) = batch.as_ref() else { return shares };
        let mut pending = 0;
        let mut homes = Homes::new(shares.len());
        for (at, series) in (0u32..).zip(&metrics.series) {
            let Some(labels) = self.labels(&series.labels) else {
                self.counters.dropped.inc_by(series.len() as u64);
                continue;
            };
            pending += series.len().max(1);
            shares[homes.of(&series.labels)].items.push(Item { batch: batch.clone(), at, labels });
        }
        self.counters.pending.inc_by(pending as i64);
        self.describe(metrics, &mut shares[0]);
        shares
    }

    fn describe(&self, metrics: &MetricBatch, share: &mut Work) {
        let newest = metrics.series.iter().filter_map(|series| series.samples.last()).map(|sample| sample.t_ms).max();
        if let Some(newest) = newest {
            let seconds = newest as f64 / 1000.0;
            self.all.highest_time.set(self.all.highest_time.get().max(seconds));
        }
        if metrics.metadata.is_empty() || !self.remote.config.metadata_config.send {
            return;
        }
        match self.remote.config.protobuf_message {
            RemoteMessage::V1 => share.metadata.clone_from(&metrics.metadata),
            RemoteMessage::V2 => remember(self.known, &metrics.metadata),
        }
    }

    /// Labels as they are sent; `None` where relabelling drops them.
    fn labels(&self, labels: &Labels) -> Option<Sent> {
        let steps = &self.remote.config.write_relabel_configs;
        if steps.is_empty() && self.remote.external.is_empty() {
            return Some(Sent::AsTheyAre);
        }
        let mut renamed = self.renamed.lock();
        if let Some(known) = renamed.get(labels) {
            return known.clone().map(Sent::Renamed);
        }
        let mut full = labels.to_builder();
        for label in self.remote.external.iter().filter(|label| labels.get(&label.name).is_none()) {
            full.set(label.name.clone(), label.value.clone());
        }
        let sent = relabel(&full.build(), steps).filter(|labels| !labels.is_empty());
        if renamed.len() >= MAX_RELABELLED {
            renamed.clear();
        }
        renamed.insert(labels.clone(), sent.clone());
        sent.map(Sent::Renamed)
    }
}

/// What decides on a series' shard, where it has all of them: then the series of a scraped metric go together, and are not
/// hashed one by one. Else all of its labels do.
const KEY: [&str; 3] = [METRIC_NAME, "instance", "job"];

/// Which shard a series goes to.
struct Homes<'a> {
    shards: usize,
    /// Where the last series had the labels of the key, and its shard.
    last: Option<([(usize, &'a Label); 3], usize)>,
}

impl<'a> Homes<'a> {
    fn new(shards: usize) -> Homes<'a> {
        Homes { shards, last: None }
    }

    fn of(&mut self, labels: &'a Labels) -> usize {
        if self.shards == 1 {
            return 0;
        }
        let all = labels.as_slice();
        let is_same = |(at, label): &(usize, &Label)| {
            let found = all.get(*at);
            found.is_some_and(|one| Arc::ptr_eq(&one.name, &label.name) && Arc::ptr_eq(&one.value, &label.value))
        };
        if let Some((known, home)) = &self.last
            && known.iter().all(is_same)
        {
            return *home;
        }
        let find = |name: &str| {
            let at = all.binary_search_by(|label| label.name.as_ref().cmp(name)).ok()?;
            Some((at, &all[at]))
        };
        // Another hash than what divides partitions: all of a partition would go to one shard.
        let home = |hash: u64| partition_for(hash, self.shards as u32) as usize;
        let [Some(name), Some(instance), Some(job)] = KEY.map(find) else {
            return home(labels.hash("shard"));
        };
        let key = [name, instance, job];
        let pairs = key.map(|(_, label)| (label.name.as_ref(), label.value.as_ref()));
        let home = home(hash_pairs("shard", pairs.into_iter()));
        self.last = Some((key, home));
        home
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_of_a_scraped_metric_stay_together_and_the_rest_is_spread() {
        let mut homes = Homes::new(8);
        let scraped = |name: &str| {
            // Texts of their own: what is equal need not be the same.
            ["1", "2"]
                .map(|code| Labels::from_pairs([(METRIC_NAME, name), ("code", code), ("instance", "i"), ("job", "j")]))
        };
        let metrics: Vec<[Labels; 2]> = (0..100).map(|n| scraped(&n.to_string())).collect();
        let places: Vec<[usize; 2]> =
            metrics.iter().map(|series| [homes.of(&series[0]), homes.of(&series[1])]).collect();
        assert!(places.iter().all(|[one, other]| one == other));
        assert!((0..8).all(|shard| places.iter().any(|place| place[0] == shard)));
        // In any order, and told anew.
        let again: Vec<usize> = metrics.iter().rev().map(|series| Homes::new(8).of(&series[0])).collect();
        assert!(places.iter().rev().map(|place| place[0]).eq(again));
        let pushed: Vec<Labels> = (0..100).map(|n| Labels::from_pairs([("n", n.to_string())])).collect();
        let shards: std::collections::BTreeSet<usize> = pushed.iter().map(|labels| homes.of(labels)).collect();
        assert_eq!(shards.len(), 8);
    }
}
