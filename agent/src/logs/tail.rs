//! The tailer: one thread that owns every file and hears of everything through one channel.
//!
//! # Contracts
//! - At most one record of a path is on its way; a path's next read begins where the acknowledged one ended. So a path's
//!   records are appended in the order of its bytes, and of its files.
//! - A file's identity is saved before its first bytes ship; offsets are saved after their acknowledgement, at most every
//!   [`SAVE_INTERVAL`] and when stopping. `kill -9` therefore costs reading some acknowledged ranges again, which stores cut.
//! - Bytes on their way are bounded by [`MAX_IN_FLIGHT_BYTES`]; beyond it nothing is read. A bus that refuses makes the
//!   files wait, never lines vanish.
//! - Paths take turns, one batch each. Those with little to read come before those that are far behind, which get every
//!   [`BEHIND_TURN`]th turn at least.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use model::{Batch, ForgetFiles, Labels};
use parking_lot::Mutex;

use super::chain::Chain;
use super::checkpoint::{CheckpointFile, PathEntry};
use super::discover::{Discovery, Found};
use super::event::{ChainId, Event, Outcome};
use super::filter::{Bucket, Reason};
use super::identity::FileKey;
use super::paths::Paths;
use super::pods::Pods;
use super::reader::{Moved, Prepared, Read, Times, read};
use super::rotation::rotated_from;
use super::ship::Shipper;
use super::snapshot;
use super::watch::Watch;
use super::{FileStatus, LogCounters, Stage, enrich};

/// Encoding and sending hold each byte about three times.
const MAX_IN_FLIGHT_BYTES: usize = 4 << 20;
const SAVE_INTERVAL: Duration = Duration::from_millis(200);
/// Known files are looked at this often without being told of a change.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Where there are more files, those that the kernel tells of and that are settled take turns, so many in a sweep.
const SWEPT_FILES: u64 = 200;
const WALK_INTERVAL: Duration = Duration::from_secs(5);
/// What costs more the more files there are is done no more often than this many times its own time.
const SPARING: u32 = 1000;
/// But at least once in so many of its ordinary intervals.
const MAX_PUT_OFF: u32 = 60;
/// New names are looked for at most this often when events tell of them.
const MIN_WALK_INTERVAL: Duration = Duration::from_millis(200);
/// Changes are gathered for this long, so that a busy file ships batches and not lines.
const LINGER: Duration = Duration::from_millis(25);
/// Nothing is heard meanwhile, so what is ready is read for no longer in one go.
const MAX_PASS: Duration = Duration::from_millis(200);
const WARNING_INTERVAL: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
const BEHIND_TURN: u64 = 4;
/// How long a pod's file waits for what the kubelet tells of it.
const NAMING_PATIENCE: Duration = Duration::from_secs(5);

/// A record on its way.
struct InFlight {
    moved: Moved,
    lines: u64,
    bytes: usize,
}

pub struct Tailer {
    pub discovery: Discovery,
    pub node: String,
    pub tenant: String,
    pub state_dir: PathBuf,
    pub checkpoint: CheckpointFile,
    pub shipper: Shipper,
    pub events: Receiver<Event>,
    pub watch: Watch,
    pub counters: LogCounters,
    pub status: Arc<Mutex<Vec<FileStatus>>>,
    pub started: SystemTime,
    /// Lines older than this are dropped.
    pub max_age_ns: Option<i64>,
    /// What the kubelet tells, where it is asked.
    pub pods: Option<Pods>,
    pub state: State,
}

/// What the tailer knows; empty at first.
#[derive(Default)]
pub struct State {
    chains: BTreeMap<ChainId, Chain>,
    paths: Paths,
    next_id: ChainId,
    /// Checkpoints of paths that no source names now: kept, should one name them again.
    dormant: Vec<PathEntry>,
    /// Files that something was written to, and files that are behind.
    ready: VecDeque<ChainId>,
    behind: VecDeque<ChainId>,
    turn: u64,
    buckets: HashMap<(usize, String), Weak<Mutex<Bucket>>>,
    queued: HashSet<ChainId>,
    in_flight: HashMap<ChainId, InFlight>,
    in_flight_bytes: usize,
    /// Changed while a record was on its way.
    again: HashSet<ChainId>,
    is_dirty: bool,
    /// When a warning about looking was given last.
    warned: Option<Instant>,
    buffer: Vec<u8>,
}

/// When things are due.
struct Timers {
    sweep: Instant,
    sweeps: u64,
    walk: Instant,
    last_walk: Instant,
    walk_cost: Duration,
    status: Instant,
    changes: Option<Instant>,
    save: Instant,
}

/// When something that took so long may be done again; a machine that is busy otherwise must not put it off for long.
fn sparing(cost: Duration, at_least: Duration, times: u32) -> Instant {
    Instant::now() + at_least.max((cost * times).min(at_least * MAX_PUT_OFF))
}

impl Tailer {
    /// Takes over what the checkpoint knows.
    pub fn restore(&mut self, entries: Vec<PathEntry>) {
        for entry in entries {
            match self.discovery.sources.iter().position(|source| source.matches(&entry.name)) {
                Some(source) => {
                    let found = Found { name: entry.name.clone(), path: entry.path.clone(), source };
                    self.state.dormant.push(entry);
                    self.add(&found);
                }
                None => self.state.dormant.push(entry),
            }
        }
    }

    /// Runs until told to stop; on the way out waits a little for what is on its way.
    pub fn run(mut self) {
        let now = Instant::now();
        let mut timers = Timers {
            sweep: now,
            sweeps: 0,
            walk: now,
            last_walk: now,
            walk_cost: Duration::ZERO,
            status: now,
            changes: None,
            save: now,
        };
        loop {
            self.on_time(&mut timers);
            self.pass();
            let now = Instant::now();
            if self.state.is_dirty && now >= timers.save {
                self.save();
                timers.save = sparing(now.elapsed(), SAVE_INTERVAL, SPARING / 25);
            }
            if self.hear(&mut timers) {
                break;
            }
        }
        self.finish();
    }

    fn on_time(&mut self, timers: &mut Timers) {
        let now = Instant::now();
        if timers.changes.is_some_and(|at| at <= now) {
            timers.changes = None;
            if self.take_changes() {
                let pause = MIN_WALK_INTERVAL.max(timers.walk_cost * 4);
                timers.walk = timers.walk.min(timers.last_walk + pause);
            }
        }
        if timers.walk <= now {
            let started = Instant::now();
            self.walk();
            timers.last_walk = Instant::now();
            timers.walk_cost = started.elapsed();
            timers.walk = sparing(timers.walk_cost, WALK_INTERVAL, SPARING);
        }
        if timers.sweep <= now {
            self.sweep(timers.sweeps);
            timers.sweeps += 1;
            timers.sweep = now + SWEEP_INTERVAL;
        }
        if timers.status <= now {
            let started = Instant::now();
            self.publish_status();
            timers.status = sparing(started.elapsed(), SWEEP_INTERVAL, SPARING);
        }
    }

    /// Looks at what nobody tells of, at what is unsettled, and at a share of all others.
    fn sweep(&mut self, turn: u64) {
        let turns = (self.state.chains.len() as u64 / SWEPT_FILES).max(1);
        let is_due = |(id, chain): (&ChainId, &Chain)| {
            let is_turn = id % turns == turn % turns;
            (is_turn || chain.is_polled || chain.is_unsettled()).then_some(*id)
        };
        let due: Vec<ChainId> = self.state.chains.iter().filter_map(is_due).collect();
        due.into_iter().for_each(|id| self.make_ready(id));
    }

    /// Waits for an event or the next timer, and takes all events there are. True: stop.
    fn hear(&mut self, timers: &mut Timers) -> bool {
        let now = Instant::now();
        let mut until = timers.sweep.min(timers.walk).min(timers.status);
        until = timers.changes.map_or(until, |at| until.min(at));
        if self.state.is_dirty {
            until = until.min(timers.save);
        }
        if !self.state.queued.is_empty() && self.state.in_flight_bytes < MAX_IN_FLIGHT_BYTES {
            until = now;
        }
        let mut heard = match self.events.recv_timeout(until.saturating_duration_since(now)) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return true,
        };
        while let Some(event) = heard {
            match event {
                Event::Stop => return true,
                Event::Shipped(id, outcome) => {
                    if self.shipped(id, &outcome) {
                        timers.changes.get_or_insert(Instant::now() + LINGER);
                    }
                }
                Event::Named => self.rename(),
                Event::Changed => drop(timers.changes.get_or_insert(Instant::now() + LINGER)),
            }
            heard = self.events.try_recv().ok();
        }
        false
    }

    /// Files that changed are ready to be read. True: names changed too.
    fn take_changes(&mut self) -> bool {
        let pending = self.watch.take();
        let mut ready: BTreeSet<ChainId> = std::mem::take(&mut self.state.again).into_iter().collect();
        let (mut has_unknown, mut found_files) = (false, Vec::new());
        if pending.anything {
            ready.extend(self.state.chains.keys());
        }
        for path in &pending.paths {
            let base = path.file_name().and_then(|name| name.to_str()).and_then(rotated_from);
            let known = self.state.paths.get(path);
            match known.or_else(|| self.state.paths.get(&path.with_file_name(base?))) {
                Some(id) => drop(ready.insert(id)),
                None if pending.names => match self.discovery.find(path) {
                    Some(found) => found_files.push(found),
                    // A directory perhaps, or a link's target.
                    None => has_unknown |= !path.is_file(),
                },
                None => {}
            }
        }
        if !found_files.is_empty() {
            let held = self.held_files();
            ready.extend(found_files.iter().filter_map(|found| self.take_up(found, &held)));
        }
        ready.into_iter().for_each(|id| self.make_ready(id));
        pending.anything || (pending.names && has_unknown)
    }

    fn make_ready(&mut self, id: ChainId) {
        if self.state.chains.get(&id).is_some_and(|chain| chain.in_flight) {
            self.state.again.insert(id);
        } else if self.state.queued.insert(id) {
            self.state.ready.push_back(id);
        }
    }

    fn make_behind(&mut self, id: ChainId) {
        if self.state.queued.insert(id) {
            self.state.behind.push_back(id);
        }
    }

    /// Whose turn it is.
    fn turn(&mut self) -> Option<ChainId> {
        let State { ready, behind, turn, queued, .. } = &mut self.state;
        *turn += 1;
        let (first, second) = if turn.is_multiple_of(BEHIND_TURN) { (behind, ready) } else { (ready, behind) };
        let id = first.pop_front().or_else(|| second.pop_front())?;
        queued.remove(&id);
        Some(id)
    }

    fn walk(&mut self) {
        let mut walk = self.discovery.walk();
        let held = self.held_files();
        for found in &walk.files {
            walk.directories.extend(found.path.parent().map(PathBuf::from));
            if let Some(id) = self.take_up(found, &held) {
                self.make_ready(id);
            }
        }
        self.state.buckets.retain(|_, bucket| bucket.strong_count() > 0);
        self.watch.set(&walk.directories);
        for chain in self.state.chains.values_mut() {
            chain.is_polled = !chain.path.parent().is_some_and(|dir| self.watch.covers(dir));
        }
    }

    fn held_files(&self) -> HashSet<FileKey> {
        self.state.chains.values().flat_map(|chain| chain.files.iter().filter_map(|file| file.entry.key)).collect()
    }

    /// Begins to follow a path that is not known, unless its file is held, under another name, or is our own.
    fn take_up(&mut self, found: &Found, held: &HashSet<FileKey>) -> Option<ChainId> {
        if self.state.paths.get(&found.path).is_some() {
            return None;
        }
        let key = FileKey::of(&std::fs::metadata(&found.path).ok()?);
        // A known file under another name goes on being read where it is known.
        if held.contains(&key) || self.discovery.own_files.contains(&key) {
            return None;
        }
        self.add(found)
    }

    /// Begins to follow a path; `None` where relabelling drops it.
    fn add(&mut self, found: &Found) -> Option<ChainId> {
        let source = &self.discovery.sources[found.source];
        let pod = self.pod_labels(&found.name);
        let known = pod.as_ref().map_or_else(Labels::default, |pod| pod.clone().unwrap_or_default());
        let naming = enrich::naming(&found.name, &self.node, &self.tenant, source, &known)?;
        let key = source.rate_limit.as_ref().map(|limit| enrich::limit_key(limit.by, &naming.streams[0], &found.path));
        let mut chain = Chain::new(found.path.clone(), found.name.clone(), naming, source);
        chain.unnamed_until = (pod == Some(None)).then(|| Instant::now() + NAMING_PATIENCE);
        if let (Some(limit), Some(key)) = (&source.rate_limit, key) {
            let known = self.state.buckets.get(&(found.source, key.clone())).and_then(Weak::upgrade);
            let bucket = known.unwrap_or_else(|| Arc::new(Mutex::new(Bucket::new(limit, model::now_ns()))));
            self.state.buckets.insert((found.source, key), Arc::downgrade(&bucket));
            chain.bucket = Some(bucket);
        }
        let mut chain = chain.watching_since(self.started);
        if let Some(at) = self.state.dormant.iter().position(|entry| entry.path == found.path) {
            chain.restore(self.state.dormant.remove(at));
        }
        let id = self.state.next_id;
        self.state.next_id += 1;
        self.state.chains.insert(id, chain);
        self.state.paths.insert(&found.path, id);
        Some(id)
    }

    fn remove(&mut self, id: ChainId) -> Option<Chain> {
        let chain = self.state.chains.remove(&id)?;
        self.state.paths.remove(&chain.path);
        Some(chain)
    }

    /// What the kubelet tells of a file's pod: nothing where it is no pod's or nobody is asked, `Some(None)` not yet.
    fn pod_labels(&self, name: &Path) -> Option<Option<Labels>> {
        let (pods, place) = (self.pods.as_ref()?, enrich::kubernetes(name)?);
        Some(pods.labels(&place))
    }

    /// Gives files the names that are known by now.
    fn rename(&mut self) {
        let mut dropped = Vec::new();
        for (id, chain) in &mut self.state.chains {
            let Some(place) = enrich::kubernetes(&chain.name) else { continue };
            let Some(known) = self.pods.as_ref().and_then(|pods| pods.labels(&place)) else { continue };
            let Some(source) = self.discovery.sources.iter().find(|source| source.matches(&chain.name)) else {
                continue;
            };
            match enrich::naming(&chain.name, &self.node, &self.tenant, source, &known) {
                Some(naming) => (chain.tenant, chain.streams) = (naming.tenant, naming.streams),
                None if !chain.in_flight => dropped.push(*id),
                None => continue,
            }
            chain.unnamed_until = None;
        }
        for id in dropped {
            if let Some(chain) = self.remove(id) {
                self.state.dormant.push(chain.checkpoint());
            }
        }
        let all: Vec<ChainId> = self.state.chains.keys().copied().collect();
        all.into_iter().for_each(|id| self.make_ready(id));
    }

    /// Reads what is ready, as far as the bytes on their way and the time allow, saves new identities once for all, and
    /// ships.
    fn pass(&mut self) {
        let mut prepared: Vec<(ChainId, Box<Prepared>)> = Vec::new();
        let mut bytes = self.state.in_flight_bytes;
        let started = Instant::now();
        while bytes < MAX_IN_FLIGHT_BYTES && started.elapsed() < MAX_PASS {
            let Some(id) = self.turn() else { break };
            if let Some(batch) = self.prepare(id) {
                bytes += batch.batch.text_bytes();
                prepared.push((id, batch));
            }
        }
        if prepared.iter().any(|(_, prepared)| prepared.needs_save) && !self.save() {
            // Nothing may ship under an identity that could be forgotten; the next sweep tries again.
            for (id, _) in prepared.extract_if(.., |(_, prepared)| prepared.needs_save) {
                if let Some(chain) = self.state.chains.get_mut(&id) {
                    (chain.in_flight, chain.is_unsure) = (false, true);
                }
            }
        }
        for (id, prepared) in prepared {
            self.ship(id, *prepared);
        }
    }

    fn prepare(&mut self, id: ChainId) -> Option<Box<Prepared>> {
        if self.state.chains.get(&id)?.in_flight {
            return None;
        }
        if self.state.chains.get(&id)?.unnamed_until.is_some_and(|until| Instant::now() < until) {
            return None;
        }
        // A truncation found while reading is followed at once by another look.
        for _ in 0..3 {
            let now = Instant::now();
            let chain = self.state.chains.get_mut(&id)?;
            let looked = chain.is_due(now).and_then(|is_due| if is_due { self.scan(id, now) } else { Ok(()) });
            let state = &mut self.state;
            let chain = state.chains.get_mut(&id)?;
            if let Err(error) = looked {
                // Of one file, else of all there or of this process.
                let is_its_own = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied);
                if is_its_own || state.warned.is_some_and(|at| now.duration_since(at) < WARNING_INTERVAL) {
                    tracing::debug!(%error, path = %chain.path.display(), "cannot look at a log file");
                } else {
                    tracing::warn!(%error, path = %chain.path.display(), "cannot look at log files");
                    state.warned = Some(now);
                }
                return None;
            }
            let next = chain.next(now)?;
            let now_ns = model::now_ns();
            let oldest_ns = self.max_age_ns.map_or(i64::MIN, |age_ns| now_ns.saturating_sub(age_ns));
            match read(chain, next, &mut state.buffer, Times { now_ns, oldest_ns }) {
                Ok(Read::Batch(prepared)) => {
                    chain.in_flight = true;
                    return Some(prepared);
                }
                Ok(Read::Nothing) => return None,
                Ok(Read::Binary) => {
                    state.is_dirty = true;
                    return None;
                }
                Ok(Read::Truncated) => chain.truncated(next.index),
                Err(error) => {
                    chain.is_unsure = true;
                    tracing::warn!(%error, path = %chain.path.display(), "cannot read a log file");
                    return None;
                }
            }
        }
        None
    }

    /// Looks at the directory of a path, for all of its paths that wait for that.
    fn scan(&mut self, id: ChainId, now: Instant) -> io::Result<()> {
        let State { chains, paths, queued, .. } = &mut self.state;
        let Some(dir) = chains.get(&id).and_then(|chain| chain.path.parent()).map(Path::to_owned) else {
            return Ok(());
        };
        // Those whose turn has come may be due for what their path leads to.
        let waits = |other: &ChainId| {
            let chain = chains.get_mut(other).filter(|chain| *other != id && !chain.in_flight);
            chain.is_some_and(|chain| {
                chain.wants_scan(now) || (queued.contains(other) && chain.is_due(now).unwrap_or(false))
            })
        };
        let others: Vec<ChainId> = paths.of_directory(&dir).filter(waits).take(snapshot::MAX_OPENED - 1).collect();
        let name = |id: ChainId| chains.get(&id)?.path.file_name()?.to_str().map(str::to_owned);
        let names = std::iter::once(id).chain(others).filter_map(name).collect();
        for (name, snapshot) in snapshot::take(&dir, names)? {
            let Some(seen) = self.state.paths.get(&dir.join(name)) else { continue };
            let Some(chain) = self.state.chains.get_mut(&seen) else { continue };
            let changes = match chain.apply(snapshot, now, &self.state_dir) {
                Ok(changes) => changes,
                Err(error) if seen == id => return Err(error),
                Err(error) => {
                    tracing::debug!(%error, path = %chain.path.display(), "cannot look at a log file");
                    continue;
                }
            };
            self.state.is_dirty |= changes.changed;
            if !changes.forgotten.is_empty() {
                self.shipper.forget(ForgetFiles { tenant: chain.tenant.clone(), files: changes.forgotten });
            }
            if chain.is_over() {
                self.remove(seen);
            } else if seen != id && changes.changed {
                self.make_ready(seen);
            }
        }
        Ok(())
    }

    fn ship(&mut self, id: ChainId, prepared: Prepared) {
        let Some(chain) = self.state.chains.get_mut(&id) else { return };
        let Prepared { batch, moved, dropped, .. } = prepared;
        let (lines, bytes) = (batch.len() as u64, batch.text_bytes());
        let discarded: u64 = dropped.each().map(|(_, count)| count).sum();
        self.counters.lines(Stage::Read, lines + discarded);
        self.counters.lines(Stage::Dropped, discarded);
        dropped.each().for_each(|(reason, count)| self.counters.dropped(reason, count));
        self.counters.bytes_read.inc_by(prepared.bytes);
        self.counters.truncated.inc_by(prepared.truncated);
        self.counters.invalid_utf8.inc_by(prepared.invalid_utf8);
        if lines == 0 {
            chain.moved(&moved, Instant::now());
            chain.in_flight = false;
            self.state.is_dirty = true;
            let is_again = self.state.again.remove(&id);
            if moved.has_more {
                self.make_behind(id);
            } else if is_again {
                self.make_ready(id);
            }
            return;
        }
        self.state.in_flight_bytes += bytes;
        self.state.in_flight.insert(id, InFlight { moved, lines, bytes });
        self.shipper.ship(id, Batch::Logs(batch));
    }

    /// Moves a path on after its record. True: it changed meanwhile, which is for the next wake.
    fn shipped(&mut self, id: ChainId, outcome: &Outcome) -> bool {
        let Some(sent) = self.state.in_flight.remove(&id) else { return false };
        self.state.in_flight_bytes -= sent.bytes;
        let Some(chain) = self.state.chains.get_mut(&id) else { return false };
        chain.in_flight = false;
        match outcome {
            Outcome::Abandoned => return false,
            Outcome::Acknowledged => self.counters.lines(Stage::Acknowledged, sent.lines),
            Outcome::Dropped => {
                self.counters.lines(Stage::Dropped, sent.lines);
                self.counters.dropped(Reason::Refused, sent.lines);
            }
        }
        chain.moved(&sent.moved, Instant::now());
        let has_others = chain.files.len() > 1;
        self.state.is_dirty = true;
        if sent.moved.has_more {
            self.state.again.remove(&id);
            self.make_behind(id);
        } else if has_others {
            self.state.again.remove(&id);
            self.make_ready(id);
        }
        self.state.again.contains(&id)
    }

    /// Writes the checkpoint; false when it could not be.
    fn save(&mut self) -> bool {
        self.state.dormant.retain(|entry| entry.path.exists());
        let chains = self.state.chains.values().map(Chain::checkpoint);
        let entries = chains.chain(self.state.dormant.iter().cloned()).collect();
        match self.checkpoint.save(entries) {
            Ok(()) => {
                self.state.chains.values_mut().for_each(Chain::saved);
                self.state.is_dirty = false;
                true
            }
            Err(error) => {
                tracing::warn!(%error, "the checkpoint cannot be saved; new files wait, no space or no permission?");
                false
            }
        }
    }

    fn publish_status(&mut self) {
        let state = &self.state;
        let of = |chain: &Chain| {
            let chain_state = |file: &super::chain::Tracked| match (file.entry.left_alone, &file.file) {
                (true, _) => "left alone",
                (_, Some(_)) => "open",
                _ => "done",
            };
            let files = chain.files.iter().map(|file| FileStatus {
                path: chain.name.display().to_string(),
                id: file.id().to_string(),
                offset: file.entry.offset,
                size: file.size().unwrap_or(file.entry.offset),
                format: chain.format.map_or("undecided", super::parse::Format::name),
                state: chain_state(file),
            });
            files.collect::<Vec<_>>()
        };
        let files: Vec<FileStatus> = state.chains.values().flat_map(of).collect();
        self.counters.files.set(files.iter().filter(|file| file.state == "open").count() as i64);
        let unread: u64 = files.iter().filter(|f| f.state == "open").map(|f| f.size.saturating_sub(f.offset)).sum();
        self.counters.unread_bytes.set(unread as i64);
        *self.status.lock() = files;
        let now = Instant::now();
        let lag = |chain: &Chain| (chain.lag(now), chain.name.display().to_string());
        let behind = state.chains.values().map(lag).filter(|((bytes, _), _)| *bytes > 0).collect();
        self.counters.lag(behind);
    }

    /// Waits a little for acknowledgements, then saves what is known.
    fn finish(mut self) {
        let deadline = Instant::now() + STOP_TIMEOUT;
        while !self.state.in_flight.is_empty() {
            match self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Event::Shipped(id, outcome)) => drop(self.shipped(id, &outcome)),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        self.shipper.stop.cancel();
        self.save();
    }
}
