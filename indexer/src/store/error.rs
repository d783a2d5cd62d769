//! Why the store failed.

use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{context}: {}: {source}", path.display())]
    Io { context: &'static str, path: PathBuf, source: io::Error },
    #[error("{}: {reason}", path.display())]
    Corrupt { path: PathBuf, reason: String },
    #[error("tantivy: {0}")]
    Tantivy(#[from] tantivy::TantivyError),
}

impl StoreError {
    pub fn io<'a>(context: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> StoreError + 'a {
        move |source| StoreError::Io { context, path: path.to_owned(), source }
    }

    pub fn corrupt(path: &Path, reason: impl Into<String>) -> StoreError {
        StoreError::Corrupt { path: path.to_owned(), reason: reason.into() }
    }
}
