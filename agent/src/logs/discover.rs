//! Which files are tailed: globs over the file system, less what is excluded, rotated away, compressed or our own.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::RelabelConfig;
use regex::bytes::Regex;
use service::config::{LogSource, Multiline, RateLimit};

use super::filter::Filter;
use super::identity::FileKey;
use super::lines::Rules;
use super::multiline::Joining;
use super::parse::Format;
use super::parse::content::Content;
use super::rotation;

/// Directories deeper than this below a glob's literal beginning are not looked into.
const MAX_DEPTH: usize = 16;
/// Directory entries looked at in one walk.
const MAX_ENTRIES: usize = 200_000;

#[derive(Debug, thiserror::Error)]
#[error("bad log path pattern {pattern:?}: {reason}")]
pub struct GlobError {
    pattern: String,
    reason: String,
}

/// What is wrong with a source.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error(transparent)]
    Glob(#[from] GlobError),
    #[error("logs.sources: {0}")]
    Content(String),
}

/// A path pattern: `*`, `?`, `[…]`, `{a,b}` within a component, `**` across components.
#[derive(Debug, Clone)]
pub struct Glob {
    /// Where a walk begins.
    root: PathBuf,
    file_name: String,
    regex: Regex,
    crosses_components: bool,
    depth: usize,
}

impl Glob {
    pub fn new(pattern: &str) -> Result<Glob, GlobError> {
        let path = Path::new(pattern);
        let is_literal = |part: &std::ffi::OsStr| !part.to_string_lossy().contains(['*', '?', '[', '{']);
        let literal: PathBuf = path.iter().take_while(|part| is_literal(part)).collect();
        let is_file = literal == path;
        let root = if is_file { literal.parent().map(Path::to_owned).unwrap_or_default() } else { literal };
        let depth = path.iter().count() - root.iter().count();
        let regex = Regex::new(&translate(pattern))
            .map_err(|error| GlobError { pattern: pattern.to_owned(), reason: error.to_string() })?;
        let file_name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Glob { root, file_name, regex, crosses_components: pattern.contains("**"), depth })
    }

    pub fn matches(&self, path: &Path) -> bool {
        self.regex.is_match(path.as_os_str().as_encoded_bytes())
    }
}

fn translate(pattern: &str) -> String {
    let mut regex = String::from("^(?s-u:");
    let (mut rest, mut braces) = (pattern, 0u32);
    while let Some(c) = rest.chars().next() {
        let mut len = c.len_utf8();
        match c {
            '*' if rest.starts_with("**/") => {
                regex.push_str("(?:.*/)?");
                len = 3;
            }
            '*' if rest.starts_with("**") => {
                regex.push_str(".*");
                len = 2;
            }
            '*' => regex.push_str("[^/]*"),
            '?' => regex.push_str("[^/]"),
            '[' => match rest.find(']').filter(|end| *end > 1) {
                Some(end) => {
                    regex.push_str(&rest[..=end].replace("[!", "[^").replace('\\', "\\\\"));
                    len = end + 1;
                }
                None => regex.push_str("\\["),
            },
            '{' => {
                braces += 1;
                regex.push_str("(?:");
            }
            '}' if braces > 0 => {
                braces -= 1;
                regex.push(')');
            }
            ',' if braces > 0 => regex.push('|'),
            c => regex.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
        }
        rest = &rest[len..];
    }
    regex.push_str(")$");
    regex
}

/// A source, its patterns compiled.
#[derive(Debug, Clone)]
pub struct Source {
    pub paths: Vec<Glob>,
    pub exclude: Vec<Glob>,
    pub format: Option<Format>,
    pub labels: BTreeMap<String, String>,
    pub tenant: Option<String>,
    pub relabel: Vec<RelabelConfig>,
    pub rules: Arc<Rules>,
    pub rate_limit: Option<RateLimit>,
}

impl Source {
    pub fn new(source: &LogSource) -> Result<Source, SourceError> {
        let files = source.paths.iter().filter(|path| ![super::JOURNAL, crate::intake::STDIN].contains(&path.as_str()));
        Ok(Source {
            paths: files.map(|path| Glob::new(path)).collect::<Result<_, _>>()?,
            exclude: source.exclude.iter().map(|path| Glob::new(path)).collect::<Result<_, _>>()?,
            format: Format::configured(source.format),
            labels: source.labels.clone(),
            tenant: source.tenant.clone(),
            relabel: source.relabel_configs.clone(),
            rules: Arc::new(Rules {
                multiline: source.multiline.as_ref().map(Joining::new),
                content: Content::of(source).map_err(SourceError::Content)?,
                filter: Filter::new(&source.transforms),
            }),
            rate_limit: source.rate_limit.clone(),
        })
    }

    pub fn matches(&self, path: &Path) -> bool {
        self.paths.iter().any(|glob| glob.matches(path)) && !self.exclude.iter().any(|glob| glob.matches(path))
    }
}

/// What is tailed when nothing is configured.
pub fn default_sources() -> Vec<LogSource> {
    let strings = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    vec![LogSource {
        paths: strings(&["/var/log/**", "/var/log/containers/*.log", "/var/log/pods/**/*.log", super::JOURNAL]),
        exclude: strings(&[
            "/var/log/journal/**",
            "/var/log/**/{wtmp,btmp,lastlog,faillog,tallylog}",
            "/var/log/**/*.{journal,gz,xz,zst,bz2,zip,tmp,swp}",
        ]),
        multiline: Some(Multiline::traces()),
        ..LogSource::default()
    }]
}

/// A file that a source wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// As it was matched.
    pub name: PathBuf,
    /// Symbolic links resolved.
    pub path: PathBuf,
    pub source: usize,
}

/// The result of a walk.
#[derive(Debug, Default)]
pub struct Walk {
    pub files: Vec<Found>,
    /// Where new files may appear, symbolic links resolved.
    pub directories: BTreeSet<PathBuf>,
}

/// Finds files. Never the directories in `own_dirs`, nor the files in `own_files`.
pub struct Discovery {
    pub sources: Vec<Source>,
    pub own_dirs: Vec<PathBuf>,
    pub own_files: HashSet<FileKey>,
}

/// What one walk is about, and what it has seen.
struct Visit<'a> {
    glob: &'a Glob,
    entries: usize,
    /// As matched, and where it really is.
    found: Vec<(PathBuf, PathBuf)>,
}

impl Discovery {
    /// Looks at everything the sources name. One file is found once, under its path in `pods` where there is one.
    pub fn walk(&self) -> Walk {
        let mut walk = Walk::default();
        let mut by_path: BTreeMap<PathBuf, Found> = BTreeMap::new();
        let mut entries = 0;
        for (index, source) in self.sources.iter().enumerate() {
            for glob in &source.paths {
                let mut visit = Visit { glob, entries, found: Vec::new() };
                if let Ok(real_root) = fs::canonicalize(&glob.root) {
                    self.visit(&glob.root, real_root, 0, &mut visit, &mut walk.directories);
                }
                entries = visit.entries;
                for (name, path) in visit.found {
                    self.add(index, source, name, path, &mut by_path);
                }
            }
        }
        if entries >= MAX_ENTRIES {
            tracing::warn!(limit = MAX_ENTRIES, "too many files under the log paths; some are not looked at");
        }
        walk.files = by_path.into_values().collect();
        walk
    }

    /// The file at one path, if a source wants it; a walk is needed for what it tells about directories.
    pub fn find(&self, name: &Path) -> Option<Found> {
        let wants = |source: &Source| source.paths.iter().any(|glob| glob.matches(name) && is_tailed_name(name, glob));
        let index = self.sources.iter().position(wants)?;
        let path = fs::canonicalize(name).ok().filter(|path| path.is_file())?;
        let mut by_path = BTreeMap::new();
        self.add(index, &self.sources[index], name.to_owned(), path, &mut by_path);
        by_path.into_values().next()
    }

    fn add(&self, index: usize, source: &Source, name: PathBuf, path: PathBuf, by_path: &mut BTreeMap<PathBuf, Found>) {
        let is_excluded = source.exclude.iter().any(|glob| glob.matches(&name));
        if is_excluded || path.to_str().is_none() || self.is_own(&path) {
            return;
        }
        let found = Found { name, path: path.clone(), source: index };
        by_path.entry(path).and_modify(|known| prefer_pods(known, &found)).or_insert(found);
    }

    /// Links to directories are not followed (they could lead round in circles), so that where a directory really is follows
    /// from where its parent is.
    fn visit(
        &self,
        dir: &Path,
        real_dir: PathBuf,
        depth: usize,
        visit: &mut Visit<'_>,
        directories: &mut BTreeSet<PathBuf>,
    ) {
        if self.is_own(dir) {
            return;
        }
        let Ok(listing) = fs::read_dir(dir) else { return };
        let glob = visit.glob;
        let may_descend = if glob.crosses_components { depth < MAX_DEPTH } else { depth + 1 < glob.depth };
        for entry in listing.flatten() {
            visit.entries += 1;
            if visit.entries >= MAX_ENTRIES {
                return;
            }
            let path = entry.path();
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                if may_descend {
                    self.visit(&path, real_dir.join(entry.file_name()), depth + 1, visit, directories);
                }
                continue;
            }
            if !glob.matches(&path) || !is_tailed_name(&path, glob) {
                continue;
            }
            let real = match kind.is_file() {
                true => Some(real_dir.join(entry.file_name())),
                false => fs::canonicalize(&path).ok().filter(|real| real.is_file()),
            };
            visit.found.extend(real.map(|real| (path, real)));
        }
        directories.insert(real_dir);
    }

    fn is_own(&self, path: &Path) -> bool {
        self.own_dirs.iter().any(|own| path.starts_with(own))
    }
}

/// Rotated and compressed names are followed as the past of their path, unless a pattern names one literally.
fn is_tailed_name(path: &Path, glob: &Glob) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
    let (compression, _) = rotation::compression(name);
    let is_past = compression != rotation::Compression::None || rotation::rotated_from(name).is_some();
    !is_past || glob.file_name == name
}

fn prefer_pods(known: &mut Found, other: &Found) {
    let is_pods = |found: &Found| found.name.iter().any(|part| part == "pods");
    if is_pods(other) && !is_pods(known) {
        known.name.clone_from(&other.name);
    }
}

/// Whether a file that begins like this is a log of text: no NUL, and at least two thirds of it UTF-8.
pub fn is_text(head: &[u8]) -> bool {
    if memchr::memchr(0, head).is_some() {
        return false;
    }
    let invalid: usize = head.utf8_chunks().map(|chunk| chunk.invalid().len()).sum();
    invalid * 3 <= head.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, path: &str, expected: bool) {
        let glob = Glob::new(pattern).expect("a good pattern");
        assert_eq!(glob.matches(Path::new(path)), expected, "{pattern} on {path}");
    }

    #[test]
    fn globs_match_components_and_trees() {
        check("/var/log/*.log", "/var/log/a.log", true);
        check("/var/log/*.log", "/var/log/b/a.log", false);
        check("/var/log/**", "/var/log/b/c/a.log", true);
        check("/var/log/**/*.log", "/var/log/a.log", true);
        check("/var/log/**/*.log", "/var/log/x/y/a.log", true);
        check("/l/[!a]?.{log,txt}", "/l/bc.txt", true);
        check("/l/[!a]?.{log,txt}", "/l/ac.txt", false);
        check("/l/a+b.log", "/l/a+b.log", true);
    }

    #[test]
    fn a_walk_finds_each_file_once_and_leaves_the_past_and_our_own() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().canonicalize().expect("a path");
        for dir in ["containers", "pods/ns_p_u/c", "own"] {
            fs::create_dir_all(root.join(dir)).expect("created");
        }
        for file in ["a.log", "a.log.1", "a.log.2.gz", "own/x.log", "pods/ns_p_u/c/0.log", "b.txt"] {
            fs::write(root.join(file), "x\n").expect("written");
        }
        std::os::unix::fs::symlink(root.join("pods/ns_p_u/c/0.log"), root.join("containers/p_ns_c-1.log"))
            .expect("linked");
        let source = LogSource {
            paths: vec![format!("{}/**", root.display())],
            exclude: vec![format!("{}/*.txt", root.display())],
            ..LogSource::default()
        };
        let discovery = Discovery {
            sources: vec![Source::new(&source).expect("good")],
            own_dirs: vec![root.join("own")],
            own_files: HashSet::new(),
        };
        let names: Vec<PathBuf> = discovery.walk().files.into_iter().map(|found| found.name).collect();
        assert_eq!(names, [root.join("a.log"), root.join("pods/ns_p_u/c/0.log")]);
    }

    #[test]
    fn text_is_told_from_binary() {
        assert!(is_text(b"hello \xff there\n") && is_text(b""));
        assert!(!is_text(b"\x00\x01") && !is_text(&[0xff; 10]));
    }
}
