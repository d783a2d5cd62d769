//! The operating system's file system.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use crate::{Disk, DiskFile, DiskLock, DiskReader};

#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl DiskFile for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

impl DiskReader for File {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match FileExt::read_at(self, &mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

struct FileLock {
    _file: File,
}

impl DiskLock for FileLock {}

/// The directory that holds a path, `.` for a bare name.
fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

impl Disk for RealDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        if dir.as_os_str().is_empty() || dir.is_dir() {
            return Ok(());
        }
        self.create_dir_all(parent_of(dir))?;
        match fs::create_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists || !dir.is_dir() => return Err(error),
            _ => {}
        }
        self.sync_dir(parent_of(dir))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        // Emptied first, then opened with O_APPEND, so that writes land at the end even after a truncation.
        File::create(path)?;
        self.append(path)
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OpenOptions::new().append(true).open(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskReader>> {
        Ok(Arc::new(File::open(path)?))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn len(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.len())
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        OpenOptions::new().write(true).open(path)?.set_len(len)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        match fs::remove_dir_all(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            // Names that are no UTF-8 are none of ours.
            names.extend(entry?.file_name().into_string().ok());
        }
        names.sort();
        Ok(names)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(if dir.as_os_str().is_empty() { Path::new(".") } else { dir })?.sync_all()
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(FileLock { _file: file })),
            Err(TryLockError::WouldBlock) => Err(io::Error::from(io::ErrorKind::WouldBlock)),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn does_what_the_trait_says() {
        let dir = tempfile::tempdir().expect("a directory");
        let (disk, nested) = (RealDisk, dir.path().join("a/b"));
        disk.create_dir_all(&nested).expect("directories");
        crate::write_atomically(&disk, &nested.join("m"), b"one").expect("written");
        let mut file = disk.append(&nested.join("m")).expect("open");
        file.append(b" two").and_then(|()| file.sync()).expect("appended");
        assert_eq!(disk.read(&nested.join("m")).expect("read"), b"one two");
        disk.truncate(&nested.join("m"), 3).expect("cut");
        let mut buffer = [0; 8];
        let reader = disk.open(&nested.join("m")).expect("reader");
        assert_eq!(reader.read_at(1, &mut buffer).expect("read"), 2);
        assert_eq!(disk.list(&nested).expect("list"), ["m"]);
        assert!(disk.free_bytes(&nested).expect("statvfs") > 0);
        let held = disk.lock(&nested.join("lock")).expect("free");
        assert!(disk.lock(&nested.join("lock")).is_err(), "held");
        drop(held);
        disk.lock(&nested.join("lock")).expect("free again");
        disk.remove_dir_all(&nested).and_then(|()| disk.remove_dir_all(&nested)).expect("removed, and no error twice");
    }
}
