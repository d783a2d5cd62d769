//! Snapshots: everything that is published at one moment, under a second name.

use super::{Store, StoreError, part_path};

impl Store {
    /// Links every part into `<tsdb>/snapshots/<name>` and writes their manifest there, last: a directory without one is no
    /// snapshot. A store can be opened on it.
    pub fn snapshot(&self, name: &str) -> Result<(), StoreError> {
        let dir = self.dir.join("snapshots").join(name);
        let parts_dir = dir.join("parts");
        // No part is removed while this lock is held.
        let manifest = self.manifest.lock();
        let created = self.disk.create_dir_all(&parts_dir);
        created.map_err(|error| StoreError::io("cannot create a snapshot", &parts_dir, error))?;
        for entry in &manifest.parts {
            let (from, to) = (part_path(&self.dir, entry.number), part_path(&dir, entry.number));
            let linked = self.disk.hard_link(&from, &to);
            linked.map_err(|error| StoreError::io("cannot link a part", &to, error))?;
        }
        self.disk.sync_dir(&parts_dir).map_err(|error| StoreError::io("cannot sync", &parts_dir, error))?;
        manifest.save(self.disk.as_ref(), &dir)
    }
}
