//! The rules of the house, checked: who may import whom, and how large a thing may grow.
//!
//! A ratchet, not a wall: what was over a bound when it was first checked is listed and may only shrink.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const MAX_FILE_LINES: usize = 700;
const MAX_FUNCTION_LINES: usize = 70;

/// Functions longer than the bound: none may be added. Tables and generated code are exempt.
const LONG_FUNCTIONS: [&str; 0] = [];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let is_skipped = ["target", "node_modules", ".git", "dist", "data"].iter().any(|skipped| name == *skipped);
        match path.is_dir() {
            true if !is_skipped => walk(&path, found),
            false => found.push(path),
            true => {}
        }
    }
}

/// Rust sources, by path from the root.
fn sources() -> BTreeMap<String, String> {
    let mut paths = Vec::new();
    walk(&root(), &mut paths);
    let rust = paths.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    rust.map(|path| {
        let name = path.strip_prefix(root()).expect("under the root").display().to_string();
        let text = fs::read_to_string(&path).expect("readable");
        (name, text)
    })
    .collect()
}

fn dependencies(manifest: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(manifest)).expect("readable");
    let section = text.split("[dependencies]").nth(1).unwrap_or("").split("\n[").next().unwrap_or("").to_owned();
    let names = section.lines().filter_map(|line| line.split(['.', ' ', '=']).next().map(str::trim));
    names.filter(|name| !name.is_empty() && !name.starts_with('#')).map(str::to_owned).collect()
}

#[test]
fn crates_import_only_what_the_layout_allows() {
    let ours = [
        "model",
        "disk",
        "bus",
        "query",
        "template",
        "rules",
        "service",
        "agent",
        "tsdb",
        "indexer",
        "alertmanager",
        "dashboards",
    ];
    let allowed: [(&str, &[&str]); 12] = [
        ("lib/model", &[]),
        ("lib/disk", &[]),
        ("lib/template", &["model"]),
        ("lib/query", &["model", "template"]),
        ("lib/bus", &["model", "disk"]),
        ("lib/service", &["model"]),
        ("lib/rules", &["model", "query", "template"]),
        ("agent", &["model", "bus", "disk", "service"]),
        ("tsdb", &["model", "bus", "disk", "query", "service"]),
        ("indexer", &["model", "bus", "disk", "query", "service"]),
        ("alertmanager", &["model", "bus", "disk", "template", "service"]),
        ("dashboards", &[]),
    ];
    for (krate, allowed) in allowed {
        for name in dependencies(&format!("{krate}/Cargo.toml")) {
            let is_ours = ours.contains(&name.as_str());
            assert!(!is_ours || allowed.contains(&name.as_str()), "{krate} must not import {name}");
            assert!(name != "rdkafka" || krate == "lib/bus", "{krate}: rdkafka belongs in lib/bus");
        }
    }
}

#[test]
fn axum_stays_at_the_edges() {
    for (path, text) in sources() {
        let is_edge = path.starts_with("src/")
            || path.starts_with("lib/service/")
            || path.contains("/api/")
            || path.ends_with("/api.rs");
        let uses = text.lines().any(|line| line.trim_start().starts_with("use axum"));
        assert!(is_edge || !uses || path.contains("tests"), "{path} uses axum outside lib/service and */api");
    }
}

#[test]
fn the_given_crates_are_really_used() {
    let all: String =
        sources().into_iter().filter(|(path, _)| !path.starts_with("tests/")).map(|(_, text)| text).collect();
    for name in ["tokio", "notify", "rdkafka", "tantivy", "axum", "serde_json", "prost", "chrono", "lettre", "regex"] {
        assert!(all.contains(&format!("{name}::")), "{name} is not used");
    }
}

#[test]
fn nothing_is_called_common_util_or_helpers() {
    let mut paths = Vec::new();
    walk(&root(), &mut paths);
    for path in paths {
        let short = path.strip_prefix(root()).expect("under the root");
        let is_vague = |part: &std::ffi::OsStr| {
            let stem = Path::new(part).file_stem().and_then(|stem| stem.to_str()).unwrap_or("");
            ["common", "util", "utils", "helper", "helpers", "misc"].contains(&stem)
        };
        assert!(!short.iter().any(is_vague), "{}: name it for what it is", short.display());
    }
}

#[test]
fn files_and_functions_stay_readable() {
    let mut faults = Vec::new();
    for (path, text) in sources() {
        let lines = text.lines().count();
        if lines > MAX_FILE_LINES {
            faults.push(format!("{path}: {lines} lines; is there a second idea in it?"));
        }
        for (name, length) in functions(&text) {
            let place = format!("{path}:{name}");
            if length > MAX_FUNCTION_LINES && !LONG_FUNCTIONS.contains(&place.as_str()) {
                faults.push(format!("{place}: {length} lines"));
            }
        }
    }
    assert!(
        faults.is_empty(),
        "over {MAX_FILE_LINES} lines a file or {MAX_FUNCTION_LINES} a function:\n{}",
        faults.join("\n")
    );
}

/// Functions with their lengths; relies on rustfmt's indentation: a body ends at a `}` as deep as its `fn`.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let signature = ["pub(crate) ", "pub(super) ", "pub ", "async ", "const ", "unsafe "]
            .iter()
            .fold(code, |rest, word| rest.strip_prefix(word).unwrap_or(rest));
        let Some(rest) = signature.strip_prefix("fn ") else { continue };
        let name = rest.split(['(', '<']).next().unwrap_or("").to_owned();
        let end = format!("{}}}", " ".repeat(line.len() - code.len()));
        let is_one_line = line.trim_end().ends_with('}') || line.trim_end().ends_with(';');
        let length = lines[start..].iter().position(|line| *line == end).map_or(1, |length| length + 1);
        found.push((name, if is_one_line { 1 } else { length }));
    }
    found
}

#[test]
fn paths_named_in_the_architecture_exist() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let mut checked = 0;
    for name in text.split('`').skip(1).step_by(2) {
        let is_path = name.contains('/') && name.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
        if is_path && !name.starts_with('/') {
            assert!(root().join(name).exists(), "ARCHITECTURE.md names {name}, which is not there");
            checked += 1;
        }
    }
    assert!(checked > 10, "only {checked} paths found");
}
