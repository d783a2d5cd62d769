//! What would be read, parsed and labelled, without reading on or remembering anything.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use model::Labels;
use service::config::{KubernetesSource, LogSink, LogSource};

use super::discover::{Discovery, Found, Source, SourceError, is_text};
use super::encoding::Encoding;
use super::enrich;
use super::identity::read_full_at;
use super::lines::{Context, frame};
use super::parse::Format;
use crate::collection::LogSetup;

/// Files shown, lines of each, and characters of each line.
const MAX_FILES: usize = 1000;
const MAX_LINES: usize = 3;
const MAX_CHARS: usize = 160;
const HEAD_BYTES: usize = 64 << 10;

#[derive(Debug, thiserror::Error)]
pub enum DryRunError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("the output: {0}")]
    Output(#[from] io::Error),
}

/// Writes for people what a setup means on this machine.
pub fn dry_run(
    setup: &LogSetup,
    node: &str,
    tenant: &str,
    own_dirs: Vec<PathBuf>,
    out: &mut dyn Write,
) -> Result<(), DryRunError> {
    let sources = setup.sources.iter().map(Source::new).collect::<Result<Vec<_>, _>>()?;
    let discovery = Discovery { sources, own_dirs, own_files: HashSet::new() };
    let found = discovery.walk().files;
    for one in found.iter().take(MAX_FILES) {
        file(one, &discovery.sources[one.source], node, tenant, out)?;
    }
    let hidden = found.len().saturating_sub(MAX_FILES);
    if hidden > 0 {
        writeln!(out, "and {hidden} more files")?;
    }
    setup.sources.iter().try_for_each(|source| listeners(source, out))?;
    let sinks: Vec<&str> = setup.sinks.iter().map(LogSink::name).collect();
    let sinks = if sinks.is_empty() { "the bus".to_owned() } else { sinks.join(", ") };
    writeln!(out, "{} files, to {sinks}", found.len())?;
    Ok(())
}

fn listeners(source: &LogSource, out: &mut dyn Write) -> io::Result<()> {
    if let Some(syslog) = &source.syslog {
        writeln!(out, "syslog on {} over {:?}", syslog.listen, syslog.protocol)?;
    }
    match source.kubernetes {
        Some(KubernetesSource::Events) => writeln!(out, "the cluster's events")?,
        Some(KubernetesSource::Terminations) => writeln!(out, "how containers of this node end")?,
        None => {}
    }
    for path in source.paths.iter().filter(|path| [super::JOURNAL, crate::intake::STDIN].contains(&path.as_str())) {
        writeln!(out, "{}", if path == super::JOURNAL { "the journal" } else { "standard input" })?;
    }
    Ok(())
}

fn file(found: &Found, source: &Source, node: &str, tenant: &str, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", found.name.display())?;
    let Some(naming) = enrich::naming(&found.name, node, tenant, source, &Labels::default()) else {
        return writeln!(out, "  dropped by relabelling");
    };
    let mut head = vec![0; HEAD_BYTES];
    let len = match File::open(&found.path).and_then(|file| read_full_at(&file, &mut head, 0)) {
        Ok(len) => len,
        Err(error) => return writeln!(out, "  cannot be read: {error}"),
    };
    let head = &head[..len];
    let encoding = Encoding::of(head);
    if encoding == Encoding::Utf8 && !is_text(head) {
        return writeln!(out, "  not text: left alone");
    }
    let now_ns = model::now_ns();
    let lines: Vec<&[u8]> = head.split(|c| *c == b'\n').filter(|line| !line.is_empty()).take(10).collect();
    let format = match source.format {
        Some(configured) if configured.is_envelope() => configured,
        Some(configured) => Format::enveloped(configured, &lines, now_ns),
        None => Format::detect(&lines, now_ns),
    };
    let ends_at = Some(len);
    let framed = frame(head, &Context { encoding, ends_at, ..Context::new(&source.rules, format, now_ns) });
    writeln!(out, "  format {}, tenant {}", format.name(), naming.tenant)?;
    let columns = &framed.columns;
    let mut start = 0;
    let mut shown = None;
    for n in 0..columns.t_ns.len().min(MAX_LINES) {
        let labels = &naming.streams[columns.stream[n] as usize];
        if shown != Some(labels) {
            writeln!(out, "  {labels}")?;
            shown = Some(labels);
        }
        let end = columns.text_end[n] as usize;
        let text: String = columns.text[start..end].chars().take(MAX_CHARS).collect();
        let time = model::format_rfc3339_ms(columns.t_ns[n] / model::NS_PER_MS);
        let metadata = &framed.metadata[columns.metadata[n] as usize];
        writeln!(out, "    {time} {metadata} {}", text.replace('\n', "\n      "))?;
        start = end;
    }
    let dropped: Vec<String> = framed.dropped.each().map(|(why, n)| format!("{n} by {}", why.name())).collect();
    if !dropped.is_empty() {
        writeln!(out, "  dropped of the first lines: {}", dropped.join(", "))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str, line: &str, expected: &str) {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().canonicalize().expect("a path").display().to_string();
        std::fs::write(dir.path().join("a.log"), line).expect("written");
        let mut source: LogSource = serde_json::from_str(source).expect("a good source");
        source.paths = vec![format!("{root}/*.log")];
        let setup = LogSetup { sources: vec![source], ..LogSetup::default() };
        let mut out = Vec::new();
        dry_run(&setup, "n", "t", Vec::new(), &mut out).expect("written");
        let text = String::from_utf8(out).expect("text").replace(&root, "");
        assert_eq!(text, format!("/a.log\n{expected}\n1 files, to the bus\n"));
    }

    #[test]
    fn files_are_shown_as_they_would_be_shipped() {
        check(
            r#"{"multiline": "java", "transforms": [{"drop": "DEBUG"}]}"#,
            "2026-11-20T06:25:00Z stdout F x.BError: no\n2026-11-20T06:25:00Z stdout F \tat y\n2026-11-20T06:25:01Z stdout F DEBUG\n",
            "  format cri, tenant t\n  {filename=\"/a.log\", node=\"n\", stream=\"stdout\"}\n    2026-11-20T06:25:00.000Z {} x.BError: no\n      \tat y\n  dropped of the first lines: 1 by filter",
        );
        check(
            r#"{"relabel_configs": [{"source_labels": ["node"], "regex": "n", "action": "drop"}]}"#,
            "x\n",
            "  dropped by relabelling",
        );
    }
}
