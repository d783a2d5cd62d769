//! A disk in memory that loses what a power cut would lose.
//!
//! Every file keeps two contents, what readers see and what is durable; every name likewise. [`FakeDisk::crash`] gives the
//! disk as the next process finds it: synced bytes as they were, of the unsynced ones any prefix, possibly with a hole of
//! zeros; each unsynced name present or not, independently. The old disk then fails every operation, as a dead process's
//! writes never arrive.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::{Disk, DiskFile, DiskLock, DiskReader};

#[derive(Clone, Default)]
pub struct FakeDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    dirs: BTreeSet<PathBuf>,
    locked: BTreeSet<PathBuf>,
    /// Room in bytes; `None` is boundless.
    free_bytes: Option<u64>,
    failing_syncs: u32,
    /// Changes still allowed before the power goes; `None` is for ever.
    changes_left: Option<u32>,
}

#[derive(Clone, Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Bytes whose sync failed: later syncs succeed without them.
    lost: Vec<Range<usize>>,
}

/// SplitMix64 (Steele, Lea, Flood 2014): enough for choosing what a crash keeps.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}

impl FakeDisk {
    pub fn new() -> FakeDisk {
        FakeDisk::default()
    }

    /// Cuts the power: this disk fails from now on, the returned one holds what survived, chosen by `seed`.
    pub fn crash(&self, seed: u64) -> FakeDisk {
        let mut state = self.state.lock();
        let mut dice = Dice(seed);
        let mut names = state.durable_names.clone();
        let touched: BTreeSet<&PathBuf> = state.names.keys().chain(state.durable_names.keys()).collect();
        for name in touched {
            let (live, durable) = (state.names.get(name), state.durable_names.get(name));
            if live != durable && dice.below(2) == 0 {
                match live {
                    Some(inode) => names.insert(name.clone(), *inode),
                    None => names.remove(name),
                };
            }
        }
        // What no name leads to any more is gone.
        let named: BTreeSet<usize> = names.values().copied().collect();
        let survivor = |(i, inode): (usize, &Inode)| match named.contains(&i) {
            true => inode.survivor(&mut dice),
            false => Inode::default(),
        };
        let inodes = state.inodes.iter().enumerate().map(survivor).collect();
        let dirs = state.dirs.clone();
        state.changes_left = Some(0);
        let survived = State { inodes, durable_names: names.clone(), names, dirs, ..State::default() };
        FakeDisk { state: Arc::new(Mutex::new(survived)) }
    }

    /// Lets `changes` more writes, syncs and namings happen and fails all after them, as if the power went.
    pub fn cut_power_after(&self, changes: u32) {
        self.state.lock().changes_left = Some(changes);
    }

    /// Bounds the room from now on: writes past it write what fits and fail with `StorageFull`.
    pub fn set_free_bytes(&self, bytes: Option<u64>) {
        self.state.lock().free_bytes = bytes;
    }

    /// Fails the next `count` syncs of files; what they should have made durable is lost at a crash.
    pub fn fail_syncs(&self, count: u32) {
        self.state.lock().failing_syncs = count;
    }

    /// Flips the bits of one byte, for tests of corruption.
    pub fn corrupt(&self, path: &Path, at: usize) -> io::Result<()> {
        let mut state = self.state.lock();
        let inode = state.find(path)?;
        for content in [&mut inode.live, &mut inode.durable] {
            if let Some(byte) = content.get_mut(at) {
                *byte = !*byte;
            }
        }
        Ok(())
    }

    fn file(&self, inode: usize) -> FakeFile {
        FakeFile { state: self.state.clone(), inode }
    }
}

impl Inode {
    fn sync(&mut self) {
        self.durable.clone_from(&self.live);
        for range in &self.lost {
            self.durable[range.clone()].fill(0);
        }
    }

    fn truncate(&mut self, len: usize) {
        self.live.resize(len, 0);
        self.lost.retain(|range| range.start < len);
        for range in &mut self.lost {
            range.end = range.end.min(len);
        }
    }

    fn survivor(&self, dice: &mut Dice) -> Inode {
        let mut content = self.durable.clone();
        if self.live.starts_with(&self.durable) {
            let unsynced = self.live.len() - self.durable.len();
            let kept = self.durable.len() + dice.below(unsynced + 1);
            content.extend_from_slice(&self.live[self.durable.len()..kept]);
            if kept > self.durable.len() && dice.below(3) == 0 {
                let hole = self.durable.len() + dice.below(kept - self.durable.len());
                let end = hole + 1 + dice.below(kept - hole);
                content[hole..end].fill(0);
            }
        } else if dice.below(2) == 0 {
            content.clone_from(&self.live);
        }
        for range in &self.lost {
            let end = range.end.min(content.len());
            content[range.start.min(end)..end].fill(0);
        }
        Inode { live: content.clone(), durable: content, lost: Vec::new() }
    }
}

impl State {
    fn find(&mut self, path: &Path) -> io::Result<&mut Inode> {
        let inode = *self.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(&mut self.inodes[inode])
    }

    /// Counts a change to the disk, which fails once the power is gone.
    fn change(&mut self) -> io::Result<()> {
        match &mut self.changes_left {
            Some(0) => Err(io::Error::other("the power is gone")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

struct FakeFile {
    state: Arc<Mutex<State>>,
    inode: usize,
}

impl DiskFile for FakeFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change()?;
        let fits = state.free_bytes.map_or(bytes.len(), |free| bytes.len().min(free as usize));
        state.free_bytes = state.free_bytes.map(|free| free - fits as u64);
        state.inodes[self.inode].live.extend_from_slice(&bytes[..fits]);
        if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change()?;
        let fails = state.failing_syncs > 0;
        state.failing_syncs = state.failing_syncs.saturating_sub(1);
        let inode = &mut state.inodes[self.inode];
        if fails {
            let unsynced = inode.durable.len().min(inode.live.len())..inode.live.len();
            inode.lost.push(unsynced);
            return Err(io::Error::other("injected failure of fsync"));
        }
        inode.sync();
        Ok(())
    }
}

impl DiskReader for FakeFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let state = self.state.lock();
        let content = &state.inodes[self.inode].live;
        let from = content.len().min(offset as usize);
        let count = buffer.len().min(content.len() - from);
        buffer[..count].copy_from_slice(&content[from..from + count]);
        Ok(count)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().inodes[self.inode].live.len() as u64)
    }
}

struct FakeLock {
    state: Arc<Mutex<State>>,
    path: PathBuf,
}

impl DiskLock for FakeLock {}

impl Drop for FakeLock {
    fn drop(&mut self) {
        self.state.lock().locked.remove(&self.path);
    }
}

impl Disk for FakeDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change()?;
        state.dirs.extend(dir.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state.lock();
        state.change()?;
        if !path.parent().is_some_and(|parent| state.dirs.contains(parent)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let known = state.names.get(path).copied();
        let inode = known.unwrap_or(state.inodes.len());
        match known {
            Some(inode) => state.inodes[inode].truncate(0),
            None => {
                state.inodes.push(Inode::default());
                state.names.insert(path.to_owned(), inode);
            }
        }
        drop(state);
        Ok(Box::new(self.file(inode)))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let inode = *self.state.lock().names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(self.file(inode)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskReader>> {
        let inode = *self.state.lock().names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(self.file(inode)))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        Ok(self.state.lock().find(path)?.live.clone())
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        Ok(self.state.lock().find(path)?.live.len() as u64)
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change()?;
        state.find(path)?.truncate(len as usize);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change()?;
        let inode = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), inode);
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change()?;
        if state.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), inode);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change()?;
        state.names.remove(path).map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change()?;
        state.names.retain(|name, _| !name.starts_with(dir));
        state.dirs.retain(|name| !name.starts_with(dir));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state.lock();
        if !state.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = state.names.keys().chain(&state.dirs).filter(|name| name.parent() == Some(dir));
        let names: BTreeSet<String> = inside.filter_map(|name| Some(name.file_name()?.to_str()?.to_owned())).collect();
        Ok(names.into_iter().collect())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change()?;
        let State { names, durable_names, .. } = &mut *state;
        durable_names.retain(|name, _| name.parent() != Some(dir));
        let inside = names.iter().filter(|(name, _)| name.parent() == Some(dir));
        durable_names.extend(inside.map(|(name, inode)| (name.clone(), *inode)));
        Ok(())
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        Ok(self.state.lock().free_bytes.unwrap_or(u64::MAX))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        if !self.state.lock().locked.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(FakeLock { state: self.state.clone(), path: path.to_owned() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::write_atomically;

    fn disk() -> FakeDisk {
        let disk = FakeDisk::new();
        disk.create_dir_all(Path::new("/d")).expect("directories");
        disk
    }

    #[test]
    fn a_crash_keeps_what_was_synced_and_a_prefix_of_the_rest() {
        let mut kept = BTreeSet::new();
        for seed in 0..64 {
            let disk = disk();
            let path = Path::new("/d/f");
            let mut file = disk.create(path).expect("created");
            file.append(b"safe")
                .and_then(|()| file.sync())
                .and_then(|()| disk.sync_dir(Path::new("/d")))
                .expect("synced");
            file.append(b"torn").expect("appended");
            let after = disk.crash(seed).read(path).expect("the name is durable");
            assert!(after.starts_with(b"safe") && after.len() <= 8);
            kept.insert(after.len());
            assert!(file.append(b"late").is_err(), "the dead write nothing");
        }
        assert!(kept.contains(&4) && kept.contains(&8) && kept.len() > 2, "{kept:?}");
    }

    #[test]
    fn names_need_their_directory_synced() {
        let survives = |seed| {
            let disk = disk();
            disk.create(Path::new("/d/f")).and_then(|mut file| file.sync()).expect("synced");
            disk.crash(seed).exists(Path::new("/d/f"))
        };
        assert!((0..32).any(survives) && !(0..32).all(survives));
    }

    #[test]
    fn atomic_writes_leave_the_old_or_the_new() {
        let path = Path::new("/d/manifest");
        for (changes, seed) in (0..6).flat_map(|changes| (0..16).map(move |seed| (changes, seed))) {
            let disk = disk();
            write_atomically(&disk, path, b"old").expect("written");
            disk.cut_power_after(changes);
            let written = write_atomically(&disk, path, b"newer");
            let after = disk.crash(seed).read(path).expect("always there");
            assert!(after == b"newer" || (written.is_err() && after == b"old"), "{after:?}");
        }
    }

    #[test]
    fn a_failed_sync_loses_its_bytes_even_if_the_next_succeeds() {
        let disk = disk();
        let path = Path::new("/d/f");
        let mut file = disk.create(path).expect("created");
        disk.sync_dir(Path::new("/d")).expect("synced");
        disk.fail_syncs(1);
        file.append(b"gone").expect("appended");
        assert!(file.sync().is_err());
        file.sync().expect("the second says nothing");
        assert_eq!(disk.crash(1).read(path).expect("there"), [0; 4]);
    }

    #[test]
    fn a_full_disk_writes_a_part() {
        let disk = disk();
        disk.set_free_bytes(Some(2));
        let mut file = disk.create(Path::new("/d/f")).expect("created");
        assert_eq!(file.append(b"abc").expect_err("full").kind(), io::ErrorKind::StorageFull);
        assert_eq!(disk.read(Path::new("/d/f")).expect("there"), b"ab");
    }
}
