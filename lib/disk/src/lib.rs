//! The file system as storage cores see it: small, synchronous, and replaceable by one that crashes.
//!
//! # Contracts
//! - Bytes are durable after [`DiskFile::sync`], a file's *name* (its creation, renaming or removal) after
//!   [`Disk::sync_dir`] of its directory. A directory is durable when [`Disk::create_dir_all`] returns.
//! - A failed `sync` says nothing about the bytes before it, and a later success does not either: Linux reports a lost
//!   page once and then forgets it. Whoever sees one fail gives up the file's unsynced end and never retries in place.
//! - A failed [`DiskFile::append`] may have written a part.
//! - [`write_atomically`] leaves the old content or the new one, whatever happens, and the new one once it returned.
//!
//! [`RealDisk`] is the operating system; [`FakeDisk`] keeps everything in memory and loses what a power cut would lose.

mod fake;
mod real;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use fake::FakeDisk;
pub use real::RealDisk;

/// A file open for appending.
pub trait DiskFile: Send {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes the content durable (`fdatasync`).
    fn sync(&mut self) -> io::Result<()>;
}

/// A file open for reading at any place; stays readable when its name is removed.
pub trait DiskReader: Send + Sync {
    /// Reads at most `buffer.len()` bytes; fewer only at the end of the file.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Fills the buffer, or fails.
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        match self.read_at(offset, buffer)? {
            read if read < buffer.len() => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            _ => Ok(()),
        }
    }
    fn len(&self) -> io::Result<u64>;
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Holds a lock on a file until it is dropped, or its process dies.
pub trait DiskLock: Send + Sync {}

pub trait Disk: Send + Sync {
    /// Creates a directory and its parents, durably.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Creates an empty file, or empties the one that is there.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens a file that is there for appending.
    fn append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskReader>>;
    /// The whole content.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    fn len(&self, path: &Path) -> io::Result<u64>;
    fn exists(&self, path: &Path) -> bool {
        self.len(path).is_ok()
    }
    /// Cuts a file. Like any write it is durable only after a sync.
    fn truncate(&self, path: &Path, len: u64) -> io::Result<()>;
    /// Gives a file a new name in the place of whatever had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a second name, which must be free; what is written by one name is read by both. Where that cannot be
    /// it is a copy, durable but for its name.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let bytes = self.read(from)?;
        let mut file = self.create(to)?;
        file.append(&bytes)?;
        file.sync()
    }
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and all below it; one that is absent is no error.
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Names of the files and directories in a directory, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Room left for an unprivileged process on the file system that holds `dir`.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;
    /// Takes an exclusive lock on a file (created when absent); `WouldBlock` when another process or handle has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>>;
}

/// Replaces a file's content at once and durably: a temporary file beside it, fsync, rename, fsync of the directory.
/// One writer per path.
pub fn write_atomically(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let written = disk.create(&temporary).and_then(|mut file| {
        file.append(bytes)?;
        file.sync()
    });
    if let Err(error) = written.and_then(|()| disk.rename(&temporary, path)) {
        // The error that matters is the first one; what stays behind is overwritten by the next attempt.
        let _ = disk.remove(&temporary);
        return Err(error);
    }
    disk.sync_dir(path.parent().unwrap_or(Path::new(".")))
}
