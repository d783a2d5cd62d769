//! A consistent look at paths of a directory and their rotated siblings, taken while they may be renamed under our eyes.
//!
//! # Contract
//! A [`Snapshot`] is what the directory held of a path at one moment: names are listed, files opened and compared with the
//! listing, and the names listed again. Where the names of a path or its siblings differ it is done over for that path, and
//! given up after [`TRIES`]; what happens to other names of the directory does not matter. All paths share the listings, so
//! that a directory of ten thousand files that never stands still is not listed for each of them.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::ops::Bound;
use std::os::unix::fs::{DirEntryExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use flate2::read::MultiGzDecoder;
use rustix::io::Errno;

use super::identity::{FileKey, HEAD_BYTES, read_head};
use super::rotation::{Age, Compression, sibling};

const TRIES: usize = 20;
/// Siblings of one path that are looked at; the youngest count.
const MAX_SIBLINGS: usize = 1000;
/// Files that are opened between two listings, but for the siblings of the last path.
pub const MAX_OPENED: usize = 256;
/// Names that are read of a directory.
const MAX_NAMES: usize = 1 << 20;

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

/// Names and inodes, by name.
type Names = BTreeMap<String, u64>;

/// Takes snapshots of paths of one directory, given by their names. Those are missing that never stood still, and those
/// that are too many for once.
pub fn take(dir: &Path, names: Vec<String>) -> io::Result<Vec<(String, Snapshot)>> {
    let mut taken = Vec::new();
    let (mut wanted, mut before) = (names, list(dir)?);
    for _ in 0..TRIES {
        let mut opened = Vec::new();
        let mut opened_files = 0;
        for base in wanted {
            if opened_files >= MAX_OPENED {
                break;
            }
            let snapshot = open_all(dir, &base, &siblings(&base, &before))?;
            opened_files += snapshot.as_ref().map_or(0, Vec::len);
            opened.push((base, snapshot));
        }
        let after = list(dir)?;
        wanted = Vec::new();
        for (base, snapshot) in opened {
            match snapshot.filter(|_| siblings(&base, &before) == siblings(&base, &after)) {
                Some(snapshot) => taken.push((base, snapshot)),
                None => wanted.push(base),
            }
        }
        if wanted.is_empty() {
            break;
        }
        before = after;
    }
    Ok(taken)
}

/// No names where there is no such directory.
fn list(dir: &Path) -> io::Result<Names> {
    let mut names = Names::new();
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if names.len() >= MAX_NAMES {
            return Err(io::Error::other(format!("a directory of more than {MAX_NAMES} names")));
        }
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

/// `None`: a name leads elsewhere by now.
fn open_all(dir: &Path, base_name: &str, names: &Names) -> io::Result<Option<Snapshot>> {
    let mut siblings: Vec<(Age, Compression, &String)> = Vec::new();
    for name in names.keys().filter(|name| *name != base_name) {
        siblings.extend(sibling(base_name, name).map(|(age, compression)| (age, compression, name)));
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
        let Some(seen) = seen else { return Ok(None) };
        snapshot.extend(seen.map(|seen| Seen { is_rotation: age.is_rotation(), ..seen }));
    }
    if let Some(ino) = names.get(base_name) {
        let Some(seen) = open(&dir.join(base_name), *ino, false)? else { return Ok(None) };
        snapshot.extend(seen.map(|seen| Seen { is_base: true, ..seen }));
    }
    Ok(Some(snapshot))
}

/// `None`: the name leads elsewhere by now. `Some(None)`: not a file we can read. An error: nothing can be opened now, which
/// says nothing about this file.
fn open(path: &Path, ino: u64, is_gzip: bool) -> io::Result<Option<Option<Seen>>> {
    let (file, meta) = match open_regular(path) {
        Ok(Some(opened)) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if [Errno::MFILE, Errno::NFILE].contains(&Errno::from_io_error(&error).unwrap_or(Errno::IO)) => {
            return Err(error);
        }
        Ok(None) | Err(_) => return Ok(Some(None)),
    };
    let key = FileKey::of(&meta);
    if key.ino != ino {
        return Ok(None);
    }
    let head = if is_gzip { gzip_head(&file) } else { read_head(&file) };
    let Ok(head) = head else { return Ok(Some(None)) };
    let path = path.to_owned();
    Ok(Some(Some(Seen {
        path,
        key,
        head,
        size: meta.len(),
        modified: meta.modified().ok(),
        file,
        is_base: false,
        is_gzip,
        is_rotation: false,
    })))
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
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Barrier, mpsc};
    use std::time::Duration;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    fn names(snapshot: &Snapshot) -> Vec<&str> {
        snapshot.iter().filter_map(|seen| seen.path.file_name()?.to_str()).collect()
    }

    /// A FIFO beside a log file (`x.log.pipe`) held the tailer in open(2) for ever, and with it every log.
    #[test]
    fn a_fifo_is_passed_by() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("x.log"), "line\n").expect("written");
        for name in ["x.log.pipe", "x.log.1"] {
            mknodat(CWD, dir.path().join(name), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a FIFO");
        }
        let (sender, taken) = mpsc::channel();
        let path = dir.path().to_owned();
        std::thread::spawn(move || sender.send(take(&path, vec!["x.log".to_owned()])));
        let snapshots = taken.recv_timeout(Duration::from_secs(20)).expect("it does not wait for a writer");
        let snapshots = snapshots.expect("readable");
        assert_eq!(names(&snapshots[0].1), ["x.log"]);
    }

    /// Each of ten thousand files had its directory listed for itself, and for ever again while names came and went there.
    #[test]
    fn files_that_stand_still_are_taken_at_once_from_a_directory_that_does_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        let wanted: Vec<String> = (0..200).map(|n| format!("{n}.log")).collect();
        wanted.iter().for_each(|name| fs::write(path(name), "line\n").expect("written"));
        fs::write(path("7.log.1"), "line\n").expect("written");
        let (is_over, begun) = (AtomicBool::new(false), Barrier::new(2));
        let snapshots = std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in (0..).take_while(|_| !is_over.load(Ordering::Relaxed)) {
                    fs::write(path(&format!("restless-{n}")), "line\n").expect("written");
                    let _ = fs::remove_file(path(&format!("restless-{}", n - 10)));
                    if n == 10 {
                        begun.wait();
                    }
                }
            });
            begun.wait();
            let taken = take(dir.path(), wanted.clone());
            is_over.store(true, Ordering::Relaxed);
            taken.expect("readable")
        });
        assert_eq!(snapshots.iter().map(|(base, _)| base.clone()).collect::<Vec<_>>(), wanted);
        assert_eq!(names(&snapshots[7].1), ["7.log.1", "7.log"]);
        assert_eq!(names(&snapshots[8].1), ["8.log"]);
    }

    #[test]
    fn what_is_too_much_for_once_is_left() {
        let dir = tempfile::tempdir().expect("a directory");
        let wanted: Vec<String> = (0..MAX_OPENED + 5).map(|n| format!("{n}.log")).collect();
        wanted.iter().for_each(|name| fs::write(dir.path().join(name), "line\n").expect("written"));
        assert_eq!(take(dir.path(), wanted).expect("readable").len(), MAX_OPENED);
        let gone = take(&dir.path().join("none"), vec!["a.log".to_owned()]).expect("nothing is there");
        assert!(matches!(&gone[..], [(_, snapshot)] if snapshot.is_empty()));
    }
}
