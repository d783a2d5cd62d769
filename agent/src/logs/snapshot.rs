//! A consistent look at a path and its rotated siblings, taken while they may be renamed under our eyes.
//!
//! # Contract
//! A [`Snapshot`] is what the directory held at one moment: names are listed, files opened and compared with the listing,
//! and the names listed again; where anything differs it is done over, and given up after [`TRIES`]. The files of a large
//! directory share a listing as long as the directory says that it is unchanged ([`Listings`]).

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::ops::Bound;
use std::os::unix::fs::{DirEntryExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use flate2::read::MultiGzDecoder;

use super::identity::{FileKey, HEAD_BYTES, read_head};
use super::rotation::{Age, Compression, sibling};

const TRIES: usize = 20;
/// Siblings of one path that are looked at; the youngest count.
const MAX_SIBLINGS: usize = 1000;

/// A file as it was seen.
#[derive(Debug)]
pub struct Seen {
    pub path: PathBuf,
    pub key: FileKey,
    /// The first bytes, decompressed.
    pub head: Vec<u8>,
    pub size: u64,
    pub modified: Option<SystemTime>,
    pub file: File,
    pub is_base: bool,
    pub is_gzip: bool,
    /// The name says that it was rotated away, so it may be read though it is not known.
    pub is_rotation: bool,
}

/// Oldest first; the path itself, when it is there, is the last.
pub type Snapshot = Vec<Seen>;

/// Takes a snapshot; `None` when the directory never stood still.
pub fn take(base: &Path, listings: &mut Listings) -> io::Result<Option<Snapshot>> {
    for _ in 0..TRIES {
        let before = listings.of(base)?;
        let Some(snapshot) = open_all(base, &before) else { continue };
        if listings.of(base)? == before {
            return Ok(Some(snapshot));
        }
    }
    Ok(None)
}

/// Directories of fewer names are read each time: kubelets give every container one of its own.
const LARGE_DIRECTORY: usize = 100;
/// Listings that are kept.
const MAX_LISTINGS: usize = 16;
/// A directory's time moves by ticks of the kernel's clock, so it tells nothing of a change soon after another.
const SETTLED: Duration = Duration::from_millis(20);

/// Names and inodes, by name.
type Names = BTreeMap<String, u64>;

/// Large directories as they were when they were read last. One is read again once its time has moved, which it does
/// whenever a name comes, goes or leads elsewhere; ten thousand files of one directory were else ten thousand readings of
/// ten thousand names.
#[derive(Default)]
pub struct Listings(HashMap<PathBuf, (Stamp, Names)>);

/// What of a directory tells that it was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    key: FileKey,
    changed: SystemTime,
}

impl Listings {
    /// Names and inodes of a path and its siblings.
    fn of(&mut self, base: &Path) -> io::Result<Names> {
        let (Some(dir), Some(base_name)) = (base.parent(), base.file_name().and_then(|name| name.to_str())) else {
            return Ok(Names::new());
        };
        match self.read(dir, base_name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Names::new()),
            names => names,
        }
    }

    fn read(&mut self, dir: &Path, base_name: &str) -> io::Result<Names> {
        let stamp = stamp(dir)?;
        if let Some((_, names)) = self.0.get(dir).filter(|(known, _)| *known == stamp) {
            return Ok(siblings(base_name, names));
        }
        self.0.remove(dir);
        let names = list(dir)?;
        let siblings = siblings(base_name, &names);
        let is_settled = stamp.changed.elapsed().is_ok_and(|since| since >= SETTLED);
        if names.len() >= LARGE_DIRECTORY && is_settled {
            if self.0.len() >= MAX_LISTINGS {
                self.0.clear();
            }
            self.0.insert(dir.to_owned(), (stamp, names));
        }
        Ok(siblings)
    }
}

/// A directory's identity and time: before it is read, so that a change meanwhile makes the listing an old one.
fn stamp(dir: &Path) -> io::Result<Stamp> {
    let meta = fs::metadata(dir)?;
    Ok(Stamp { key: FileKey::of(&meta), changed: meta.modified()? })
}

fn list(dir: &Path) -> io::Result<Names> {
    let mut names = Names::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string() {
            names.insert(name, entry.ino());
        }
    }
    Ok(names)
}

/// A name and its siblings, which all begin with it.
fn siblings(base_name: &str, names: &Names) -> Names {
    let named_so = names
        .range::<str, _>((Bound::Included(base_name), Bound::Unbounded))
        .take_while(|(name, _)| name.starts_with(base_name));
    let wanted = named_so.filter(|(name, _)| *name == base_name || sibling(base_name, name).is_some());
    wanted.map(|(name, ino)| (name.clone(), *ino)).collect()
}

fn open_all(base: &Path, names: &BTreeMap<String, u64>) -> Option<Snapshot> {
    let (dir, base_name) = (base.parent()?, base.file_name()?.to_str()?);
    let mut siblings: Vec<(Age, Compression, &String)> = Vec::new();
    for name in names.keys().filter(|name| *name != base_name) {
        let (age, compression) = sibling(base_name, name)?;
        siblings.push((age, compression, name));
    }
    siblings.sort_by(|(a, _, _), (b, _, _)| a.cmp_oldest_first(b));
    let skipped = siblings.len().saturating_sub(MAX_SIBLINGS);
    let mut snapshot = Snapshot::new();
    for (age, compression, name) in siblings.into_iter().skip(skipped) {
        // A compressed file beside its original is not finished, or not needed.
        let has_original = name.strip_suffix(".gz").is_some_and(|stem| stem != base_name && names.contains_key(stem));
        if compression == Compression::Other || has_original {
            continue;
        }
        let seen = open(&dir.join(name), names[name], compression == Compression::Gzip)?;
        snapshot.extend(seen.map(|seen| Seen { is_rotation: age.is_rotation(), ..seen }));
    }
    if let Some(ino) = names.get(base_name) {
        let seen = open(base, *ino, false)?;
        snapshot.extend(seen.map(|seen| Seen { is_base: true, ..seen }));
    }
    Some(snapshot)
}

/// `None`: the name leads elsewhere by now. `Some(None)`: not a file we can read.
fn open(path: &Path, ino: u64, is_gzip: bool) -> Option<Option<Seen>> {
    let (file, meta) = match open_regular(path) {
        Ok(Some(opened)) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Ok(None) | Err(_) => return Some(None),
    };
    let key = FileKey::of(&meta);
    if key.ino != ino {
        return None;
    }
    let head = if is_gzip { gzip_head(&file) } else { read_head(&file) };
    let Ok(head) = head else { return Some(None) };
    let path = path.to_owned();
    Some(Some(Seen {
        path,
        key,
        head,
        size: meta.len(),
        modified: meta.modified().ok(),
        file,
        is_base: false,
        is_gzip,
        is_rotation: false,
    }))
}

/// `None` where it is no regular file. Devices are never opened, and a FIFO that takes a file's place in between cannot
/// make us wait for its writer.
fn open_regular(path: &Path) -> io::Result<Option<(File, Metadata)>> {
    if !fs::metadata(path)?.is_file() {
        return Ok(None);
    }
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
    let meta = file.metadata()?;
    Ok(meta.is_file().then_some((file, meta)))
}

fn gzip_head(file: &File) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    MultiGzDecoder::new(file).take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    /// A FIFO beside a log file (`x.log.pipe`) held the tailer in open(2) for ever, and with it every log.
    #[test]
    fn a_fifo_is_passed_by() {
        let dir = tempfile::tempdir().expect("a directory");
        let base = dir.path().join("x.log");
        fs::write(&base, "line\n").expect("written");
        for name in ["x.log.pipe", "x.log.1"] {
            mknodat(CWD, dir.path().join(name), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a FIFO");
        }
        let (sender, taken) = mpsc::channel();
        std::thread::spawn(move || sender.send(take(&base, &mut Listings::default())));
        let snapshot = taken.recv_timeout(Duration::from_secs(20)).expect("it does not wait for a writer");
        let snapshot = snapshot.expect("readable").expect("the directory stood still");
        let names: Vec<_> = snapshot.iter().filter_map(|seen| seen.path.file_name()).collect();
        assert_eq!(names, ["x.log"]);
    }

    /// Each of ten thousand files in a directory had all of its names read, and nothing else got its turn.
    #[test]
    fn files_of_a_large_directory_share_its_listing() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        for n in 0..LARGE_DIRECTORY {
            fs::write(path(&format!("{n}.log")), "line\n").expect("written");
        }
        let long_ago = SystemTime::now() - Duration::from_secs(60);
        let set_time = || File::open(dir.path()).and_then(|dir| dir.set_modified(long_ago)).expect("set");
        let seen = |listings: &mut Listings, name: &str| {
            let snapshot = take(&path(name), listings).expect("readable").expect("it stands still");
            snapshot.iter().filter_map(|seen| seen.path.file_name()?.to_str().map(str::to_owned)).collect::<Vec<_>>()
        };
        set_time();
        let mut listings = Listings::default();
        assert_eq!(seen(&mut listings, "1.log"), ["1.log"]);
        // A name that came with the time left as it was shows that nothing was read.
        fs::write(path("1.log.1"), "line\n").expect("written");
        set_time();
        assert_eq!(seen(&mut listings, "1.log"), ["1.log"]);
        fs::rename(path("1.log.1"), path("1.log.2")).expect("renamed");
        assert_eq!(seen(&mut listings, "1.log"), ["1.log.2", "1.log"], "its time has moved");
        fs::rename(path("2.log"), path("2.log.1")).expect("renamed");
        assert_eq!(seen(&mut listings, "2.log"), ["2.log.1"], "a listing soon after a change is not kept");
    }
}
