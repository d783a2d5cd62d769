//! From head to parts, and out of retention: every change of the manifest but merges.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bus::Offset;
use model::MS_PER_DAY;

use super::deletions::Deletion;
use super::head::TenantHead;
use super::manifest::{Manifest, PartEntry};
use super::part::{Directory, Packing, Part, PartWriter, Summary};
use super::{Frozen, LivePart, Store, StoreError, View, part_path};

impl View {
    /// Brings a manifest's deletions up to date.
    fn note_deletions(&self, manifest: &mut Manifest) {
        for entry in &mut manifest.parts {
            if let Some(live) = self.parts.iter().find(|live| live.entry.number == entry.number) {
                entry.deletions.clone_from(&live.entry.deletions);
            }
        }
    }

    /// What was deleted of a run's parts after the run was taken: a part that was made of them does not leave it out.
    fn deletions_since(&self, run: &[LivePart]) -> Vec<Arc<Deletion>> {
        let mut since: Vec<Arc<Deletion>> = Vec::new();
        for before in run {
            let now = self.parts.iter().find(|live| live.entry.number == before.entry.number);
            for deletion in now.into_iter().flat_map(|live| &live.entry.deletions) {
                if !before.entry.deletions.contains(deletion) && !since.contains(deletion) {
                    since.push(deletion.clone());
                }
            }
        }
        since
    }

    /// Puts on a part what was deleted of the frozen head that it was written from.
    fn delete_from_frozen(&self, live: &mut LivePart) {
        for (tenant, deletion) in &self.frozen_deletions {
            if *tenant == live.entry.tenant {
                live.delete(deletion);
            }
        }
    }
}

impl Store {
    /// Publishes the head, or first the one that could not be published before. Answers the offsets below which the bus is
    /// not needed any more. After an error everything is still there to be tried again.
    pub fn publish(&self) -> Result<BTreeMap<u32, Offset>, StoreError> {
        let mut manifest = self.manifest.lock();
        let frozen = self.freeze();
        // Before the manifest says that the bus is not needed for it.
        self.save_metadata()?;
        if frozen.head.samples() == 0 && frozen.next == manifest.next {
            let mut view = self.view.write();
            view.frozen = None;
            view.frozen_deletions.clear();
            return Ok(frozen.next.clone());
        }
        let mut written = self.write_head(&mut manifest, &frozen)?;
        let mut successor = manifest.clone();
        {
            let view = self.view.read();
            view.note_deletions(&mut successor);
            written.iter_mut().for_each(|live| view.delete_from_frozen(live));
        }
        successor.next.clone_from(&frozen.next);
        successor.parts.extend(written.iter().map(|live| live.entry.clone()));
        if let Err(error) = successor.save(self.disk.as_ref(), &self.dir) {
            self.remove_unless_named(&written);
            return Err(error);
        }
        *manifest = successor;
        let mut view = self.view.write();
        // Deletions may have come meanwhile; the next manifest has them, and until then the bus does.
        written.iter_mut().for_each(|live| view.delete_from_frozen(live));
        view.parts.extend(written);
        self.directories.note_publishing();
        view.frozen = None;
        view.frozen_deletions.clear();
        Ok(frozen.next.clone())
    }

    fn freeze(&self) -> Arc<Frozen> {
        let mut view = self.view.write();
        if let Some(frozen) = &view.frozen {
            return frozen.clone();
        }
        let frozen = Arc::new(Frozen { head: std::mem::take(&mut view.head), next: view.next.clone() });
        view.frozen = Some(frozen.clone());
        frozen
    }

    /// Writes the parts of a head, durably. Leaves nothing behind when that fails.
    fn write_head(&self, manifest: &mut Manifest, frozen: &Frozen) -> Result<Vec<LivePart>, StoreError> {
        let mut written = Vec::new();
        let mut tenants: Vec<(&String, &TenantHead)> = frozen.head.tenants().collect();
        tenants.sort_unstable_by_key(|(name, _)| *name);
        for (tenant, head) in tenants {
            for (day, ids) in head.ids_by_day() {
                let number = manifest.take_number();
                match self.write_part(number, Packing::Quick, |writer| write_day(writer, head, day, &ids)) {
                    Ok((summary, directory)) => {
                        self.written.flushed.fetch_add(summary.bytes, Ordering::Relaxed);
                        let entry = PartEntry {
                            number,
                            tenant: tenant.clone(),
                            day,
                            summary,
                            packed: false,
                            deletions: Vec::new(),
                        };
                        written.push(self.live_part(entry, directory, |view| {
                            let is_near = |live: &&LivePart| live.entry.tenant == *tenant && live.entry.day == day;
                            self.directories.are_asked(view.parts.iter().filter(is_near))
                        }));
                    }
                    Err(error) => {
                        let numbers = written.iter().map(|live| live.entry.number).chain([number]);
                        self.remove_parts(numbers);
                        self.directories.forget(&written);
                        return Err(error);
                    }
                }
            }
        }
        let parts_dir = self.dir.join("parts");
        self.disk.sync_dir(&parts_dir).map_err(|error| StoreError::io("cannot sync", &parts_dir, error))?;
        Ok(written)
    }

    /// After a manifest that could not be saved: removes its new parts, or every attempt on a full disk would fill it
    /// more. If it took its name all the same, or nobody can say, they stay until a start finds out.
    fn remove_unless_named(&self, written: &[LivePart]) {
        let named = match Manifest::load(self.disk.as_ref(), &self.dir) {
            Ok(manifest) => manifest.map_or_else(Vec::new, |manifest| manifest.parts),
            Err(_) => return,
        };
        let numbers = || written.iter().map(|live| live.entry.number);
        if numbers().all(|number| named.iter().all(|entry| entry.number != number)) {
            self.remove_parts(numbers());
            self.directories.forget(written);
        }
    }

    /// Writes one part and reads its directory back: what cannot be read must not take the place of what can. Its name is
    /// durable after a sync of the directory.
    pub(super) fn write_part(
        &self,
        number: u64,
        packing: Packing,
        write: impl FnOnce(&mut PartWriter) -> Result<(), StoreError>,
    ) -> Result<(Summary, Directory), StoreError> {
        let path = part_path(&self.dir, number);
        let mut writer = PartWriter::create(self.disk.as_ref(), &path, packing)?;
        write(&mut writer)?;
        let summary = writer.finish()?;
        let part = Arc::new(Part::open(self.disk.as_ref(), &path, &summary)?);
        Ok((summary, part.load()?))
    }

    /// A part that was just written. Where queries ask for the like, its directory is held for the next one.
    pub(super) fn live_part(
        &self,
        entry: PartEntry,
        directory: Directory,
        is_asked: impl FnOnce(&View) -> bool,
    ) -> LivePart {
        let live = LivePart { entry, part: directory.frames().part().clone() };
        if is_asked(&self.view.read()) {
            self.directories.bring(&live, directory);
        }
        live
    }

    /// Drops the days of a tenant that lie as a whole before its oldest instant. Answers how many parts went.
    pub fn drop_expired(&self, oldest_ms: impl Fn(&str) -> i64) -> Result<usize, StoreError> {
        self.drop_parts(|manifest| {
            let is_expired =
                |entry: &&PartEntry| (entry.day + 1).saturating_mul(MS_PER_DAY) <= oldest_ms(&entry.tenant);
            manifest.parts.iter().filter(is_expired).map(|entry| entry.number).collect()
        })
    }

    /// Drops the oldest days until all parts together have at most so many bytes. The newest day stays. Answers how many
    /// parts went.
    pub fn drop_oversize(&self, max_bytes: u64) -> Result<usize, StoreError> {
        self.drop_parts(|manifest| {
            let mut days: BTreeMap<i64, u64> = BTreeMap::new();
            for entry in &manifest.parts {
                *days.entry(entry.day).or_default() += entry.summary.bytes;
            }
            let mut bytes: u64 = days.values().sum();
            let _newest = days.pop_last();
            let too_many = days.into_iter().take_while(|(_, of_day)| {
                let is_over = bytes > max_bytes;
                bytes -= of_day;
                is_over
            });
            let last = too_many.last().map_or(i64::MIN, |(day, _)| day);
            manifest.parts.iter().filter(|entry| entry.day <= last).map(|entry| entry.number).collect()
        })
    }

    /// Drops the parts of these numbers, those too that cannot be read.
    fn drop_parts(&self, choose: impl FnOnce(&Manifest) -> BTreeSet<u64>) -> Result<usize, StoreError> {
        let mut manifest = self.manifest.lock();
        let gone = choose(&manifest);
        if gone.is_empty() {
            return Ok(0);
        }
        let mut successor = manifest.clone();
        self.view.read().note_deletions(&mut successor);
        successor.parts.retain(|entry| !gone.contains(&entry.number));
        successor.save(self.disk.as_ref(), &self.dir)?;
        *manifest = successor;
        let mut view = self.view.write();
        let dropped = view.parts.extract_if(.., |live| gone.contains(&live.entry.number)).collect::<Vec<_>>();
        view.unreadable = manifest.parts.len() - view.parts.len();
        drop(view);
        self.directories.forget(&dropped);
        self.remove_parts(gone.iter().copied());
        Ok(gone.len())
    }

    /// Puts one part that was made of others, or none, in their place: in the manifest, in the view, and then on disk.
    pub(super) fn replace(
        &self,
        manifest: &mut Manifest,
        run: &[LivePart],
        mut new: Option<LivePart>,
    ) -> Result<(), StoreError> {
        let old: Vec<u64> = run.iter().map(|live| live.entry.number).collect();
        let mut successor = manifest.clone();
        {
            let view = self.view.read();
            view.note_deletions(&mut successor);
            new.iter_mut().for_each(|live| live.entry.deletions = view.deletions_since(run));
        }
        let first = successor.parts.iter().position(|entry| old.contains(&entry.number)).unwrap_or(0);
        successor.parts.retain(|entry| !old.contains(&entry.number));
        if let Some(live) = &new {
            successor.parts.insert(first, live.entry.clone());
        }
        if let Err(error) = successor.save(self.disk.as_ref(), &self.dir) {
            self.remove_unless_named(new.as_slice());
            return Err(error);
        }
        *manifest = successor;
        let mut view = self.view.write();
        // Deletions may have come while the manifest was saved; as in [`Store::publish`] the next one has them.
        new.iter_mut().for_each(|live| live.entry.deletions = view.deletions_since(run));
        // Not the manifest's place: it names parts too that cannot be read.
        let first = view.parts.iter().position(|live| old.contains(&live.entry.number)).unwrap_or(0);
        view.parts.retain(|live| !old.contains(&live.entry.number));
        if let Some(live) = new {
            view.parts.insert(first, live);
        }
        drop(view);
        self.directories.forget(run);
        self.remove_parts(old.into_iter());
        Ok(())
    }

    /// Removes files that no manifest names any more. What cannot be removed now is removed at the next start.
    pub(super) fn remove_parts(&self, numbers: impl Iterator<Item = u64>) {
        for number in numbers {
            let _ = self.disk.remove(&part_path(&self.dir, number));
        }
    }
}

fn write_day(writer: &mut PartWriter, head: &TenantHead, day: i64, ids: &[u32]) -> Result<(), StoreError> {
    let start_ms = day.saturating_mul(MS_PER_DAY);
    let end_ms = start_ms.saturating_add(MS_PER_DAY - 1);
    for id in ids {
        let exemplars = head.exemplars(*id, start_ms, end_ms);
        writer.add(head.labels(*id), &head.columns(*id, start_ms, end_ms), &exemplars)?;
    }
    Ok(())
}
