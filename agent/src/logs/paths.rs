//! Which chain follows which path, by directory.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::event::ChainId;

#[derive(Default)]
pub struct Paths(HashMap<PathBuf, HashMap<OsString, ChainId>>);

impl Paths {
    pub fn get(&self, path: &Path) -> Option<ChainId> {
        let (dir, name) = parts(path)?;
        self.0.get(dir)?.get(name).copied()
    }

    pub fn insert(&mut self, path: &Path, id: ChainId) {
        let Some((dir, name)) = parts(path) else { return };
        match self.0.get_mut(dir) {
            Some(names) => drop(names.insert(name.to_owned(), id)),
            None => drop(self.0.insert(dir.to_owned(), HashMap::from([(name.to_owned(), id)]))),
        }
    }

    pub fn remove(&mut self, path: &Path) {
        let Some((dir, name)) = parts(path) else { return };
        let Some(names) = self.0.get_mut(dir) else { return };
        names.remove(name);
        if names.is_empty() {
            self.0.remove(dir);
        }
    }

    /// All that are followed in one directory.
    pub fn of_directory(&self, dir: &Path) -> impl Iterator<Item = ChainId> {
        self.0.get(dir).into_iter().flat_map(HashMap::values).copied()
    }
}

fn parts(path: &Path) -> Option<(&Path, &OsStr)> {
    Some((path.parent()?, path.file_name()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_by_name_and_by_directory() {
        let mut paths = Paths::default();
        for (path, id) in [("/a/x", 1), ("/a/y", 2), ("/b/x", 3)] {
            paths.insert(Path::new(path), id);
        }
        assert_eq!((paths.get(Path::new("/a/y")), paths.get(Path::new("/a/z"))), (Some(2), None));
        paths.remove(Path::new("/a/x"));
        assert_eq!(paths.of_directory(Path::new("/a")).collect::<Vec<_>>(), [2]);
        paths.remove(Path::new("/a/y"));
        assert_eq!(paths.0.len(), 1, "nothing is left of a directory without paths");
    }
}
