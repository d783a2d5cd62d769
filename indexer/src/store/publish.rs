//! Publication, merging and retention: everything that changes the manifest.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::block::{Block, BlockLine};
use super::erasure::{Erasers, Erasure, MAX_LISTED, reaching};
use super::head::{Head, line_hash};
use super::manifest::{Manifest, SegmentEntry};
use super::retention::Kept;
use super::segment::{Segment, SegmentBuilder, StreamKey};
use super::{Frozen, LogStore, NS_PER_DAY, StoreError, remove_unknown};

/// Room that a merge leaves on the disk, beyond what it may write.
const MERGE_MARGIN_BYTES: u64 = 64 << 20;

impl LogStore {
    /// Whether the head should be published now.
    pub fn wants_publish(&self) -> bool {
        let state = self.state.read();
        let is_old = |since_ns: i64| self.now_ns().saturating_sub(since_ns) >= self.options.publish_after_ns;
        state.frozen.is_some()
            || state.head.bytes >= self.options.publish_bytes
            || state.dirty_since_ns.is_some_and(is_old)
    }

    /// Publishes what was applied so far; false if there was nothing. After a failure the head stays queryable, and the
    /// next call tries again.
    pub fn publish(&self) -> Result<bool, StoreError> {
        let mut manifest = self.publishing.lock();
        let Some(frozen) = self.freeze() else { return Ok(false) };
        let published = self.publish_frozen(&mut manifest, &frozen);
        self.sweep(&manifest);
        published.map(|()| true)
    }

    fn publish_frozen(&self, manifest: &mut Manifest, frozen: &Frozen) -> Result<(), StoreError> {
        let mut entries = Vec::new();
        for (tenant, day) in days(&frozen.head) {
            let id = manifest.take_segment_id();
            let entry = SegmentEntry::new(id, id, &tenant, day, frozen.next_erasure);
            let mut builder = SegmentBuilder::new(self.disk.as_ref(), &self.dir, entry)?;
            for (key, blocks) in streams_of_day(&frozen.head, &tenant, day) {
                let stream = builder.add_stream(key);
                blocks.iter().try_for_each(|block| builder.add_block(stream, block))?;
            }
            entries.push(builder.finish()?);
        }
        let mut next = manifest.clone();
        next.next_offset.clone_from(&frozen.next_offset);
        next.ranges.clone_from(&frozen.ranges);
        next.erasures.clone_from(&frozen.erasures);
        next.next_erasure = frozen.next_erasure;
        next.segments.extend(entries.iter().cloned());
        let opened = self.open_all(entries)?;
        manifest.replace(next, self.disk.as_ref(), &self.dir)?;
        let mut state = self.state.write();
        state.segments.extend(opened);
        state.frozen = None;
        Ok(())
    }

    /// Removes the directories that no manifest names, on disk or perhaps. What cannot be removed now is the next time.
    fn sweep(&self, manifest: &Manifest) {
        if let Err(error) = remove_unknown(self.disk.as_ref(), &self.dir, manifest) {
            tracing::debug!(%error, "a segment that is not needed is still there");
        }
    }

    /// The head as it is now, set apart; the one that failed to be published before, if there is one.
    fn freeze(&self) -> Option<Arc<Frozen>> {
        let mut state = self.state.write();
        if state.frozen.is_none() {
            state.dirty_since_ns.take()?;
            let head = std::mem::take(&mut state.head);
            state.frozen = Some(Arc::new(Frozen {
                head,
                ranges: state.ranges.clone(),
                erasures: state.erasures.clone(),
                next_erasure: state.next_erasure,
                next_offset: state.next_offset.clone(),
            }));
        }
        state.frozen.clone()
    }

    fn open_all(&self, entries: Vec<SegmentEntry>) -> Result<Vec<Arc<Segment>>, StoreError> {
        entries.into_iter().map(|entry| Segment::open(&self.disk, &self.dir, entry).map(Arc::new)).collect()
    }

    /// The next offsets that the manifest on disk holds: records below them may be released.
    pub fn published_offsets(&self) -> BTreeMap<u32, u64> {
        self.publishing.lock().next_offset.clone()
    }

    /// Merges one group of small segments, or writes one again without what was erased of it; false if there is none that
    /// there is room for. A group that fails does not keep the others from being merged; a segment that cannot be read is
    /// left as it is.
    pub fn merge(&self) -> Result<bool, StoreError> {
        let mut manifest = self.publishing.lock();
        self.settle(&mut manifest)?;
        let mut failed = None;
        let groups = self.small_segments();
        let alone = self.segments_to_rewrite(&manifest).map(|segment| vec![segment]);
        for group in groups.into_iter().chain(alone) {
            let merged = self.has_room_for(&group).and_then(|has_room| match has_room {
                true => self.merge_group(&mut manifest, &group).map(|()| true),
                false => Ok(false),
            });
            self.sweep(&manifest);
            match merged {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(false), Err)
    }

    fn has_room_for(&self, group: &[Arc<Segment>]) -> Result<bool, StoreError> {
        let input_bytes: u64 = group.iter().flat_map(|segment| &segment.entry.files).map(|file| file.len).sum();
        let free_bytes = self.disk.free_bytes(&self.dir).map_err(StoreError::io("asking for free space", &self.dir))?;
        Ok(free_bytes >= input_bytes.saturating_add(MERGE_MARGIN_BYTES))
    }

    fn merge_group(&self, manifest: &mut Manifest, group: &[Arc<Segment>]) -> Result<(), StoreError> {
        let (tenant, day) = (group[0].entry.tenant.clone(), group[0].entry.day);
        let order = group.iter().map(|segment| segment.entry.order).min().unwrap_or(0);
        let entry = SegmentEntry::new(manifest.take_segment_id(), order, &tenant, day, manifest.next_erasure);
        let mut builder = SegmentBuilder::new(self.disk.as_ref(), &self.dir, entry)?;
        let of_tenant = |erasure: &&Arc<Erasure>| erasure.request.tenant == tenant;
        let erasures: Vec<_> = manifest.erasures.iter().filter(of_tenant).cloned().collect();
        let kept = self.kept(&tenant);
        for (key, mut blocks) in by_stream(group) {
            let oldest_ns = kept.oldest_ns(&key.labels);
            blocks.retain(|(min_ns, max_ns, segment, _)| {
                let bounds = (*min_ns, *max_ns);
                let reaching = reaching(&erasures, segment.entry.erased_below, &key.labels, bounds);
                *max_ns >= oldest_ns && !reaching.iter().any(|erasure| erasure.covers(*min_ns, *max_ns))
            });
            if !blocks.is_empty() {
                merge_stream(&mut builder, key, blocks, &erasures)?;
            }
        }
        let mut next = manifest.clone();
        let mut opened = Vec::new();
        if !builder.is_empty() {
            let entry = builder.finish()?;
            next.segments.push(entry.clone());
            opened = self.open_all(vec![entry])?;
        }
        let gone: HashSet<u64> = group.iter().map(|segment| segment.entry.id).collect();
        self.install(manifest, next, opened, &gone)
    }

    /// Drops the segments whose lines are all beyond retention, and the oldest while there are too many bytes.
    pub fn expire(&self) -> Result<usize, StoreError> {
        let mut manifest = self.publishing.lock();
        let (now_ns, retention) = (self.now_ns(), &self.options.retention);
        let is_expired =
            |entry: &&SegmentEntry| entry.max_ns < now_ns.saturating_sub(retention.longest_ns(&entry.tenant));
        let mut gone: HashSet<u64> = manifest.segments.iter().filter(is_expired).map(|entry| entry.id).collect();
        if let Some(max_bytes) = retention.max_bytes {
            let mut rest: Vec<_> = manifest.segments.iter().filter(|entry| !gone.contains(&entry.id)).collect();
            rest.sort_by_key(|entry| std::cmp::Reverse((entry.max_ns, entry.order)));
            let mut bytes = 0;
            for entry in rest {
                bytes += entry.files.iter().map(|file| file.len).sum::<u64>();
                if bytes > max_bytes {
                    gone.insert(entry.id);
                }
            }
        }
        if !gone.is_empty() {
            let next = manifest.clone();
            self.install(&mut manifest, next, Vec::new(), &gone)?;
            self.sweep(&manifest);
        }
        Ok(gone.len())
    }

    /// Makes `next` without the segments in `gone` the manifest, then the state.
    fn install(
        &self,
        manifest: &mut Manifest,
        mut next: Manifest,
        opened: Vec<Arc<Segment>>,
        gone: &HashSet<u64>,
    ) -> Result<(), StoreError> {
        next.segments.retain(|entry| !gone.contains(&entry.id));
        manifest.replace(next, self.disk.as_ref(), &self.dir)?;
        let mut state = self.state.write();
        state.segments.retain(|segment| !gone.contains(&segment.entry.id));
        state.segments.extend(opened);
        Ok(())
    }

    /// Segments that hold lines of erasures that the manifest names, or streams of which all is beyond retention.
    fn segments_to_rewrite(&self, manifest: &Manifest) -> impl Iterator<Item = Arc<Segment>> + use<> {
        let segments = self.state.read().segments.clone();
        let (erasures, now_ns, retention) = (manifest.erasures.clone(), self.now_ns(), self.options.retention.clone());
        let is_due = move |segment: &Arc<Segment>| {
            let kept = Kept::new(&retention, &segment.entry.tenant, now_ns);
            let has_expired = || {
                let oldest_ns: Vec<i64> = segment.streams.iter().map(|key| kept.oldest_ns(&key.labels)).collect();
                segment.blocks.iter().any(|info| segment.entry.max_ns < oldest_ns[info.stream as usize])
            };
            segment.failures() == 0 && (erasures.iter().any(|erasure| is_due(segment, erasure)) || has_expired())
        };
        segments.into_iter().filter(is_due)
    }

    /// Puts erasures that no segment is read through any more among those that are only listed.
    fn settle(&self, manifest: &mut Manifest) -> Result<(), StoreError> {
        if manifest.erasures.is_empty() {
            return Ok(());
        }
        let segments = self.state.read().segments.clone();
        let is_open = |entry: &&SegmentEntry| segments.iter().any(|segment| segment.entry.id == entry.id);
        let unreadable: Vec<&SegmentEntry> = manifest.segments.iter().filter(|entry| !is_open(entry)).collect();
        let is_needed = |erasure: &Arc<Erasure>| {
            let may_hold = |entry: &&SegmentEntry| {
                entry.tenant == erasure.request.tenant
                    && entry.erased_below <= erasure.number
                    && erasure.overlaps(entry.min_ns, entry.max_ns)
            };
            unreadable.iter().any(may_hold) || segments.iter().any(|segment| is_due(segment, erasure))
        };
        let (needed, done): (Vec<_>, Vec<_>) = manifest.erasures.iter().cloned().partition(is_needed);
        if done.is_empty() {
            return Ok(());
        }
        let mut next = manifest.clone();
        next.erasures = needed;
        // A publication that failed before may have brought one back that was done.
        next.erased.retain(|request| done.iter().all(|erasure| erasure.request.id != request.id));
        next.erased.extend(done.iter().map(|erasure| erasure.request.clone()));
        next.erased.drain(..next.erased.len().saturating_sub(MAX_LISTED));
        manifest.replace(next, self.disk.as_ref(), &self.dir)?;
        let mut state = self.state.write();
        state.erasures.retain(|erasure| done.iter().all(|done| done.number != erasure.number));
        state.erased.clone_from(&manifest.erased);
        Ok(())
    }

    /// Groups that are worth merging, each of one tenant and day.
    fn small_segments(&self) -> Vec<Vec<Arc<Segment>>> {
        let mut groups: BTreeMap<(String, i64), Vec<Arc<Segment>>> = BTreeMap::new();
        for segment in &self.state.read().segments {
            if segment.entry.text_bytes < self.options.merge_below_bytes && segment.failures() == 0 {
                groups.entry((segment.entry.tenant.clone(), segment.entry.day)).or_default().push(segment.clone());
            }
        }
        let mut groups: Vec<_> = groups.into_values().collect();
        groups.retain(|group| group.len() >= self.options.merge_count.max(2));
        for group in &mut groups {
            group.sort_by_key(|segment| segment.entry.order);
            let mut text_bytes = 0;
            let fits = |segment: &&Arc<Segment>| {
                text_bytes += segment.entry.text_bytes;
                text_bytes <= self.options.merged_bytes
            };
            let count = group.iter().take_while(fits).count();
            group.truncate(count.max(2));
        }
        groups
    }
}

/// Whether a segment holds blocks that may have lines of an erasure.
fn is_due(segment: &Segment, erasure: &Erasure) -> bool {
    let entry = &segment.entry;
    if entry.tenant != erasure.request.tenant
        || entry.erased_below > erasure.number
        || !erasure.overlaps(entry.min_ns, entry.max_ns)
    {
        return false;
    }
    let reaches = |key: &StreamKey| erasure.reaches(&key.labels, entry.min_ns, entry.max_ns);
    let reached: Vec<bool> = segment.streams.iter().map(reaches).collect();
    segment.blocks.iter().any(|info| reached[info.stream as usize] && erasure.overlaps(info.min_ns, info.max_ns))
}

/// A block with its first and last instant: the segment, and the number there.
type StreamBlock<'a> = (i64, i64, &'a Segment, u32);

/// The blocks of segments by stream, in one pass: there may be a million streams.
fn by_stream(group: &[Arc<Segment>]) -> BTreeMap<&StreamKey, Vec<StreamBlock<'_>>> {
    let mut streams: BTreeMap<&StreamKey, Vec<StreamBlock<'_>>> = BTreeMap::new();
    for segment in group {
        for (number, info) in (0u32..).zip(&segment.blocks) {
            let blocks = streams.entry(&segment.streams[info.stream as usize]).or_default();
            blocks.push((info.min_ns, info.max_ns, segment, number));
        }
    }
    streams
}

/// Adds a stream's lines of all segments but those that are erased. Large blocks that share their time with no other are
/// taken as they are; the lines of those between them are put together.
fn merge_stream(
    builder: &mut SegmentBuilder<'_>,
    key: &StreamKey,
    mut blocks: Vec<StreamBlock<'_>>,
    erasures: &[Arc<Erasure>],
) -> Result<(), StoreError> {
    blocks.sort_by_key(|(min_ns, max_ns, segment, number)| (*min_ns, *max_ns, segment.entry.order, *number));
    let stream = builder.add_stream(key.clone());
    let (mut between, mut before_ns) = (Vec::new(), None);
    for (i, (min_ns, max_ns, segment, number)) in blocks.iter().enumerate() {
        let is_apart = before_ns.is_none_or(|before_ns| before_ns < *min_ns)
            && blocks.get(i + 1).is_none_or(|(next_ns, ..)| *max_ns < *next_ns);
        before_ns = before_ns.max(Some(*max_ns));
        let reaching = reaching(erasures, segment.entry.erased_below, &key.labels, (*min_ns, *max_ns));
        if is_apart && reaching.is_empty() && segment.is_copyable(*number) {
            put_together(builder, stream, key, std::mem::take(&mut between))?;
            let copied = builder.copy_block(stream, segment, *number);
            copied.inspect_err(|error| segment.report(*number, error))?;
        } else {
            between.push((*segment, *number, reaching));
        }
    }
    put_together(builder, stream, key, between)
}

/// Adds the lines of blocks of a stream in new blocks; of the same instant those of the older segment come first.
fn put_together(
    builder: &mut SegmentBuilder<'_>,
    stream: u64,
    key: &StreamKey,
    mut blocks: Vec<(&Segment, u32, Vec<Arc<Erasure>>)>,
) -> Result<(), StoreError> {
    blocks.sort_by_key(|(segment, number, _)| (segment.entry.order, *number));
    let mut lines = Regrouped::new(key.pushed);
    for (segment, number, erasures) in blocks {
        let block = segment.block(number).inspect_err(|error| segment.report(number, error))?;
        lines.take(match erasures.is_empty() {
            true => block,
            false => Erasers::new(&key.labels, &erasures).remains(&block),
        });
    }
    lines.blocks(i64::MIN, i64::MAX).iter().try_for_each(|block| builder.add_block(stream, block))
}

/// The UTC day of an instant, counted from 1970.
fn day_of(t_ns: i64) -> i64 {
    t_ns.div_euclid(NS_PER_DAY)
}

/// The tenants and days that a head has lines of.
fn days(head: &Head) -> BTreeSet<(String, i64)> {
    let mut found = BTreeSet::new();
    for (tenant, streams) in &head.tenants {
        let mut days = BTreeSet::new();
        for block in streams.values().flat_map(|stream| &stream.blocks) {
            match (day_of(block.block.min_ns), day_of(block.block.max_ns)) {
                (first, last) if first == last => drop(days.insert(first)),
                _ => days.extend(block.block.lines().map(|line| day_of(line.t_ns))),
            }
        }
        found.extend(days.into_iter().map(|day| (tenant.clone(), day)));
    }
    found
}

fn streams_of_day<'a>(
    head: &'a Head,
    tenant: &str,
    day: i64,
) -> impl Iterator<Item = (StreamKey, Vec<Block>)> + use<'a> {
    let (start_ns, end_ns) = (day.saturating_mul(NS_PER_DAY), (day + 1).saturating_mul(NS_PER_DAY));
    let streams = head.tenants.get(tenant).into_iter().flatten();
    streams.filter_map(move |(key, stream)| {
        let mut lines = Regrouped::new(key.pushed);
        let in_day = |head: &&Arc<super::head::HeadBlock>| head.block.min_ns < end_ns && head.block.max_ns >= start_ns;
        stream.blocks.iter().filter(in_day).for_each(|head| lines.take(head.block.clone()));
        let blocks = lines.blocks(start_ns, end_ns);
        (!blocks.is_empty()).then(|| (key.clone(), blocks))
    })
}

/// The lines of one stream on their way into new blocks: by time, ties as they arrived, copies of pushed lines once.
struct Regrouped {
    pushed: bool,
    blocks: Vec<Block>,
}

impl Regrouped {
    fn new(pushed: bool) -> Regrouped {
        Regrouped { pushed, blocks: Vec::new() }
    }

    fn take(&mut self, block: Block) {
        self.blocks.push(block);
    }

    fn blocks(&self, start_ns: i64, end_ns: i64) -> Vec<Block> {
        let mut lines: Vec<BlockLine<'_>> = self.blocks.iter().flat_map(Block::lines).collect();
        lines.retain(|line| start_ns <= line.t_ns && (line.t_ns < end_ns || end_ns == i64::MAX));
        lines.sort_by_key(|line| line.t_ns);
        let (mut full, mut open, mut seen) = (Vec::new(), Block::default(), HashSet::new());
        for line in lines {
            if self.pushed && !seen.insert(line_hash(line)) {
                continue;
            }
            if open.is_large() {
                full.push(std::mem::take(&mut open));
            }
            open.push(line);
        }
        if !open.is_empty() {
            full.push(open);
        }
        full
    }
}
