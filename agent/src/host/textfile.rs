//! The textfile collector: metrics that others leave in `*.prom` files of one directory.
//!
//! A file that is no exposition, or has timestamps, is left out whole and said by `node_textfile_scrape_error`.

use std::io;
use std::path::Path;
use std::time::UNIX_EPOCH;

use model::METRIC_NAME;
use model::exposition::{Exposition, TextFormat, parse};

use super::{Roots, read};
use crate::metrics::Gathered;

/// Files looked at.
const MAX_FILES: usize = 1000;

pub fn textfile(roots: &Roots, out: &mut Gathered) -> io::Result<()> {
    let Some(dir) = &roots.textfile_dir else {
        out.add("node_textfile_scrape_error", &[], 0.0);
        return Ok(());
    };
    let mut has_error = false;
    match std::fs::read_dir(dir) {
        Ok(entries) => {
            let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
            paths.retain(|path| path.extension().is_some_and(|extension| extension == "prom"));
            paths.sort();
            for path in paths.iter().take(MAX_FILES) {
                has_error |= one_file(path, out).inspect_err(|reason| said(path, reason)).is_err();
            }
        }
        Err(error) => {
            said(dir, &error.to_string());
            has_error = true;
        }
    }
    out.add("node_textfile_scrape_error", &[], f64::from(u8::from(has_error)));
    Ok(())
}

fn said(path: &Path, reason: &str) {
    tracing::debug!(reason, path = %path.display(), "the textfile collector");
}

fn one_file(path: &Path, out: &mut Gathered) -> Result<(), String> {
    let text = read(path).map_err(|error| error.to_string())?;
    let Exposition { samples, .. } = parse(&text, TextFormat::Prometheus).map_err(|error| error.to_string())?;
    if samples.iter().any(|sample| sample.t_ms.is_some()) {
        return Err("it contains timestamps".to_owned());
    }
    for sample in samples {
        let labels = sample.labels.iter().filter(|label| &*label.name != METRIC_NAME);
        let labels: Vec<(&str, &str)> = labels.map(|label| (&*label.name, &*label.value)).collect();
        out.add(sample.labels.metric_name().unwrap_or_default(), &labels, sample.value);
    }
    let modified =
        std::fs::metadata(path).and_then(|metadata| metadata.modified()).map_err(|error| error.to_string())?;
    let seconds = modified.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    out.add("node_textfile_mtime_seconds", &[("file", &path.display().to_string())], seconds);
    Ok(())
}
