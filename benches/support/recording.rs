//! Scrapes of a real node_exporter, replayed as if many machines were scraped at once.
//!
//! A recording is a directory of answers to `GET /metrics`, one file per scrape, in order of their names; see
//! `benches/record.sh`. Machine *i* begins [`SHIFT`]·*i* scrapes into it, and goes round at its end.

use std::collections::HashMap;
use std::path::Path;

/// So many scrapes lie between two machines.
const SHIFT: usize = 23;

pub struct Recording {
    /// Names and values of the labels of each series, sorted by name, without `instance` and `job`.
    pub series: Vec<Vec<(String, String)>>,
    /// Scrape by scrape, the value of every series.
    scrapes: Vec<Vec<f64>>,
}

impl Recording {
    /// Reads the series that every scrape has.
    pub fn read(dir: &Path) -> Recording {
        let mut files: Vec<_> = std::fs::read_dir(dir).expect("a directory").flatten().map(|e| e.path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "prom"));
        files.sort();
        let texts = files.iter().map(|path| std::fs::read_to_string(path).expect("a scrape"));
        let scrapes: Vec<Vec<(String, f64)>> = texts.map(|text| samples(&text)).filter(|one| !one.is_empty()).collect();
        assert!(!scrapes.is_empty(), "{} holds no scrapes", dir.display());
        let mut seen: HashMap<&str, usize> = HashMap::new();
        scrapes.iter().flatten().for_each(|(key, _)| *seen.entry(key).or_default() += 1);
        let keys: Vec<&str> =
            scrapes[0].iter().map(|(key, _)| key.as_str()).filter(|key| seen[key] == scrapes.len()).collect();
        let values = |scrape: &Vec<(String, f64)>| {
            let by_key: HashMap<&str, f64> = scrape.iter().map(|(key, value)| (key.as_str(), *value)).collect();
            keys.iter().map(|key| by_key[key]).collect()
        };
        Recording {
            series: keys.iter().map(|key| labels(key)).collect(),
            scrapes: scrapes.iter().map(values).collect(),
        }
    }

    /// The values of a machine's series at a scrape.
    pub fn values(&self, machine: usize, scrape: usize) -> &[f64] {
        &self.scrapes[(scrape + machine * SHIFT) % self.scrapes.len()]
    }
}

fn samples(text: &str) -> Vec<(String, f64)> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.rsplit_once(' ')).map(|(key, value)| (key.to_owned(), number(value))).collect()
}

fn number(text: &str) -> f64 {
    text.parse().expect("a sample's value")
}

/// `name{a="b",…}` as pairs.
fn labels(key: &str) -> Vec<(String, String)> {
    let (name, rest) = key.split_once('{').unwrap_or((key, ""));
    let mut pairs = vec![("__name__".to_owned(), name.to_owned())];
    let mut rest = rest.trim_end_matches('}');
    while let Some((name, after)) = rest.split_once("=\"") {
        let mut value = String::new();
        let mut chars = after.char_indices();
        rest = "";
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    rest = after[at + 1..].trim_start_matches(',');
                    break;
                }
                '\\' => value.extend(chars.next().map(|(_, c)| if c == 'n' { '\n' } else { c })),
                c => value.push(c),
            }
        }
        pairs.push((name.to_owned(), value));
    }
    pairs.sort();
    pairs
}
