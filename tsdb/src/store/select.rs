//! Reading samples for the query engine.
//!
//! A read takes its sources at one moment: the head's matching samples, the frozen head and the list of parts. What is
//! published, merged or deleted meanwhile changes nothing for it. Of a part's directory it keeps the places of the blocks
//! that it will read, so that a long range needs one directory at a time. Several threads may read series of one selection at once;
//! a frame of blocks that neighbouring series share is unpacked once for all of them.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use model::{IdMap, Labels};
use parking_lot::Mutex;
use query::{QueryError, Samples, Series, SeriesSelect, SeriesSet};

use super::columns;
use super::deletions::{Deletion, ranges_of, remove_all};
use super::head::TenantHead;
use super::part::{Block, FrameBytes, Frames, Reading};
use super::{Frozen, LivePart, Store, StoreError, View};

/// Unpacked frames that a selection keeps: enough for all parts of a long range, since neighbours share them.
const MAX_CACHED_FRAMES: usize = 128;

/// Where a series' samples are.
enum Place {
    Part {
        source: u32,
        /// Of the selection's blocks.
        blocks: Range<u32>,
    },
    Frozen {
        id: u32,
    },
    /// Copied when the selection was made.
    Head(Box<Samples>),
}

impl From<StoreError> for QueryError {
    fn from(error: StoreError) -> QueryError {
        QueryError::Storage(error.to_string())
    }
}

impl View {
    /// The parts of a tenant that reach into the inclusive range, oldest first.
    pub(super) fn parts(&self, tenant: &str, start_ms: i64, end_ms: i64) -> Vec<LivePart> {
        let reaches = |live: &&LivePart| {
            let summary = live.entry.summary;
            live.entry.tenant == tenant && summary.min_ms <= end_ms && summary.max_ms >= start_ms
        };
        self.parts.iter().filter(reaches).cloned().collect()
    }

    pub(super) fn frozen_deletions(&self, tenant: &str) -> Vec<Arc<Deletion>> {
        self.frozen_deletions.iter().filter(|(of, _)| of == tenant).map(|(_, deletion)| deletion.clone()).collect()
    }
}

pub fn frozen_head<'a>(frozen: &'a Option<Arc<Frozen>>, tenant: &str) -> Option<&'a TenantHead> {
    frozen.as_ref()?.head.tenant(tenant)
}

/// What one selector found.
struct Selection {
    tenant: String,
    reading: Reading,
    deadline: Option<Instant>,
    /// The parts where something was found. Their directories may go meanwhile: what is read of them is in `blocks`.
    sources: Vec<Source>,
    blocks: Vec<Block>,
    frozen: Option<Arc<Frozen>>,
    frozen_deletions: Vec<Arc<Deletion>>,
    /// Sorted, and where each one's places end.
    rows: Vec<(Labels, Range<usize>)>,
    /// Of row after row, from the oldest source to the newest.
    places: Vec<Place>,
    frames: FrameCache,
}

/// A part of a selection.
struct Source {
    frames: Arc<Frames>,
    deletions: Vec<Arc<Deletion>>,
}

/// Series being gathered: each label set once.
#[derive(Default)]
struct Gathering {
    by_hash: IdMap<u64, u32>,
    rows: Vec<Labels>,
    found: Vec<(u32, Place)>,
}

impl Gathering {
    /// Adds a place of the series with these labels; `is` tells whether it has given ones.
    fn add(&mut self, hash: u64, is: impl Fn(&Labels) -> bool, labels: impl FnOnce() -> Labels, place: Place) {
        let mut key = hash;
        let row = loop {
            match self.by_hash.get(&key) {
                Some(row) if is(&self.rows[*row as usize]) => break *row,
                // Two label sets of one hash: the second lies at the next free key.
                Some(_) => key = key.wrapping_add(1),
                None => {
                    let row = self.rows.len() as u32;
                    self.by_hash.insert(key, row);
                    self.rows.push(labels());
                    break row;
                }
            }
        };
        self.found.push((row, place));
    }

    fn add_head(&mut self, labels: &Labels, place: Place) {
        self.add(labels.hash(""), |other| other == labels, || labels.clone(), place);
    }

    /// Rows by rising labels, with the ranges of their places, and the places.
    fn finish(mut self) -> (Vec<(Labels, Range<usize>)>, Vec<Place>) {
        let mut order: Vec<u32> = (0..self.rows.len() as u32).collect();
        order.sort_by(|a, b| self.rows[*a as usize].cmp(&self.rows[*b as usize]));
        let mut rank = vec![0u32; order.len()];
        for (place, row) in order.iter().enumerate() {
            rank[*row as usize] = place as u32;
        }
        self.found.sort_by_key(|(row, _)| rank[*row as usize]);
        let mut rows: Vec<(Labels, Range<usize>)> = Vec::with_capacity(order.len());
        let mut places = Vec::with_capacity(self.found.len());
        let mut last = None;
        for (row, place) in self.found {
            if last != Some(row) {
                rows.push((self.rows[row as usize].clone(), places.len()..places.len()));
                last = Some(row);
            }
            places.push(place);
            if let Some((_, range)) = rows.last_mut() {
                range.end = places.len();
            }
        }
        (rows, places)
    }
}

impl Series for Store {
    fn select<'s>(&'s self, request: &SeriesSelect<'_>) -> Result<Box<dyn SeriesSet + 's>, QueryError> {
        let SeriesSelect { tenant, matchers, start_ms, end_ms, deadline, wants } = *request;
        if start_ms > end_ms {
            return Ok(Box::new(Vec::<(Labels, Samples)>::new()));
        }
        let mut latest = Vec::new();
        let (parts, frozen, frozen_deletions) = {
            let view = self.view.read();
            if let Some(head) = view.head.tenant(tenant) {
                for id in &head.postings().select(matchers) {
                    let columns = head.columns(id, start_ms, end_ms);
                    if !columns.is_empty() {
                        latest.push((head.labels(id).clone(), columns));
                    }
                }
            }
            (view.parts(tenant, start_ms, end_ms), view.frozen.clone(), view.frozen_deletions(tenant))
        };
        let mut gathering = Gathering::default();
        let (mut sources, mut blocks) = (Vec::new(), Vec::new());
        let asking = self.directories.ask(&parts);
        for live in parts {
            check_deadline(deadline)?;
            let (part, first) = (asking.open(&live)?, blocks.len());
            for id in &part.postings().select(matchers) {
                let begin = blocks.len() as u32;
                blocks.extend(part.blocks(id, start_ms, end_ms));
                let blocks = begin..blocks.len() as u32;
                if !blocks.is_empty() {
                    let place = Place::Part { source: sources.len() as u32, blocks };
                    gathering.add(part.hash(id), |labels| part.has_labels(id, labels), || part.labels(id), place);
                }
            }
            if blocks.len() > first {
                sources.push(Source { frames: part.frames().clone(), deletions: live.entry.deletions });
            }
        }
        if let Some(head) = frozen_head(&frozen, tenant) {
            for id in head.postings().select(matchers).iter().filter(|id| head.has_sample(*id, start_ms, end_ms)) {
                gathering.add_head(head.labels(id), Place::Frozen { id });
            }
        }
        for (labels, columns) in latest {
            gathering.add_head(&labels, Place::Head(Box::new(columns)));
        }
        check_deadline(deadline)?;
        let (rows, places) = gathering.finish();
        self.read_metrics.note(tenant, matchers, rows.iter().map(|(labels, _)| labels));
        let (tenant, reading) = (tenant.to_owned(), Reading { start_ms, end_ms, wants });
        let frames = FrameCache::default();
        Ok(Box::new(Selection {
            tenant,
            reading,
            deadline,
            sources,
            blocks,
            frozen,
            frozen_deletions,
            rows,
            places,
            frames,
        }))
    }
}

impl SeriesSet for Selection {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn labels(&self, i: usize) -> &Labels {
        &self.rows[i].0
    }

    fn read(&self, i: usize, into: &mut Samples) -> Result<(), QueryError> {
        check_deadline(self.deadline)?;
        into.clear();
        let (labels, places) = &self.rows[i];
        for place in &self.places[places.clone()] {
            match place {
                Place::Head(columns) => columns::merge_later(into, columns.as_ref()),
                Place::Frozen { id } => {
                    let Reading { start_ms, end_ms, .. } = self.reading;
                    let Some(head) = frozen_head(&self.frozen, &self.tenant) else { continue };
                    let mut own = head.columns(*id, start_ms, end_ms);
                    remove_all(&mut own, &ranges_of(&self.frozen_deletions, &self.tenant, labels));
                    columns::merge_later(into, &own);
                }
                Place::Part { source, blocks } => self.read_part(*source, blocks, labels, into)?,
            }
        }
        Ok(())
    }
}

impl Selection {
    fn read_part(
        &self,
        number: u32,
        blocks: &Range<u32>,
        labels: &Labels,
        into: &mut Samples,
    ) -> Result<(), StoreError> {
        let source = &self.sources[number as usize];
        let blocks = &self.blocks[blocks.start as usize..blocks.end as usize];
        let frame = |frame: u32| self.frames.get((number, frame), || source.frames.load(frame));
        if source.deletions.is_empty() {
            return source.frames.read(blocks, &self.reading, frame, into);
        }
        let mut own = Samples::default();
        source.frames.read(blocks, &self.reading, frame, &mut own)?;
        remove_all(&mut own, &ranges_of(&source.deletions, &self.tenant, labels));
        columns::merge_later(into, &own);
        Ok(())
    }
}

/// A frame that is being unpacked, or is.
type Slot = Arc<Mutex<Option<FrameBytes>>>;

/// The frames unpacked last, each by one thread while others that want it wait.
#[derive(Default)]
struct FrameCache {
    /// By part and number of the frame.
    slots: Mutex<Slots>,
}

#[derive(Default)]
struct Slots {
    by_key: HashMap<(u32, u32), Slot>,
    /// From the one that came first.
    order: VecDeque<(u32, u32)>,
}

impl FrameCache {
    fn get(
        &self,
        key: (u32, u32),
        load: impl FnOnce() -> Result<Vec<u8>, StoreError>,
    ) -> Result<FrameBytes, StoreError> {
        let slot = {
            let mut slots = self.slots.lock();
            let Slots { by_key, order } = &mut *slots;
            match by_key.get(&key) {
                Some(slot) => slot.clone(),
                None => {
                    if order.len() >= MAX_CACHED_FRAMES
                        && let Some(oldest) = order.pop_front()
                    {
                        by_key.remove(&oldest);
                    }
                    order.push_back(key);
                    by_key.entry(key).or_default().clone()
                }
            }
        };
        let mut held = slot.lock();
        if let Some(frame) = held.as_ref() {
            return Ok(frame.clone());
        }
        let frame = Arc::new(load()?);
        *held = Some(frame.clone());
        Ok(frame)
    }
}

pub fn check_deadline(deadline: Option<Instant>) -> Result<(), QueryError> {
    let is_late = deadline.is_some_and(|deadline| Instant::now() > deadline);
    if is_late { Err(QueryError::Timeout("query execution")) } else { Ok(()) }
}
