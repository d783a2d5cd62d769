//! What is found of lines at arrival, as Loki finds it: `service_name` as a label of the stream, `detected_level` as structured
//! metadata of the line.
//!
//! The same line always gives the same, so that one that is sent again is the same line.

use std::collections::HashMap;
use std::sync::Arc;

use ::service::config::LogLimits;
use model::{Labels, LevelFinder, LineRef, LogBatch, LogColumns, Origin, known_level, level_of_severity};

const SERVICE: &str = "service_name";
const UNKNOWN_SERVICE: &str = "unknown_service";
const LEVEL: &str = "detected_level";
const SEVERITY: &str = "severity_number";

/// How one tenant's lines are looked at.
#[derive(Debug)]
pub struct Discovery {
    service_labels: Vec<String>,
    levels: Option<LevelFinder>,
}

impl Discovery {
    pub fn new(limits: &LogLimits) -> Discovery {
        let levels = limits.discover_log_levels.then(|| LevelFinder::new(&limits.log_level_fields));
        Discovery { service_labels: limits.discover_service_name.clone(), levels }
    }

    /// A stream's labels with its service's name.
    pub fn named(&self, labels: &Labels) -> Labels {
        if self.service_labels.is_empty() || labels.get(SERVICE).is_some() {
            return labels.clone();
        }
        let service = self.service_labels.iter().find_map(|name| labels.get(name));
        labels.with(SERVICE, service.unwrap_or(UNKNOWN_SERVICE))
    }

    /// A batch with what is found of its streams and lines.
    pub fn of_batch(self: &Arc<Self>, batch: LogBatch) -> LogBatch {
        let mut lines = Collected::new(self.clone(), &batch.tenant, batch.origin);
        let sets: Vec<u32> = batch.metadata.iter().map(|set| lines.set(set)).collect();
        let streams: Vec<u32> = batch.streams.iter().map(|labels| lines.stream(labels)).collect();
        for line in batch.lines() {
            let (stream, set) = (streams[line.stream as usize], sets[line.metadata as usize]);
            lines.push(stream, set, &line);
        }
        lines.into_batch()
    }
}

/// A metadata set on its way in.
struct Set {
    labels: Labels,
    /// The level that it says itself.
    level: Option<String>,
    /// Its place in the batch with each level, or as it is.
    places: Vec<(String, u32)>,
}

/// Lines of a batch with what was found of them.
pub struct Collected {
    discovery: Arc<Discovery>,
    tenant: String,
    origin: Origin,
    streams: Vec<Labels>,
    /// The level that a stream's labels say.
    stream_levels: Vec<Option<String>>,
    sets: Vec<Set>,
    set_numbers: HashMap<Labels, u32>,
    metadata: Vec<Labels>,
    columns: LogColumns,
}

impl Collected {
    pub fn new(discovery: Arc<Discovery>, tenant: &str, origin: Origin) -> Collected {
        let mut collected = Collected {
            discovery,
            tenant: tenant.to_owned(),
            origin,
            streams: Vec::new(),
            stream_levels: Vec::new(),
            sets: Vec::new(),
            set_numbers: HashMap::new(),
            metadata: vec![Labels::default()],
            columns: LogColumns::default(),
        };
        collected.set(&Labels::default());
        collected
    }

    /// Adds a stream; answers its number.
    pub fn stream(&mut self, labels: &Labels) -> u32 {
        let named = self.discovery.levels.as_ref().and_then(|levels| levels.named(|name| labels.get(name)));
        self.stream_levels.push(named.map(meant));
        self.streams.push(self.discovery.named(labels));
        self.streams.len() as u32 - 1
    }

    /// The number of a metadata set; 0 is the empty one.
    pub fn set(&mut self, labels: &Labels) -> u32 {
        if let Some(number) = self.set_numbers.get(labels) {
            return *number;
        }
        let number = self.sets.len() as u32;
        self.sets.push(Set { labels: labels.clone(), level: self.level_of(labels), places: Vec::new() });
        self.set_numbers.insert(labels.clone(), number);
        number
    }

    /// The level that a metadata set says.
    fn level_of(&self, metadata: &Labels) -> Option<String> {
        let levels = self.discovery.levels.as_ref()?;
        let said = metadata.get(LEVEL).or_else(|| levels.named(|name| metadata.get(name)));
        said.map(meant).or_else(|| metadata.get(SEVERITY).map(|number| level_of_severity(number).to_owned()))
    }

    /// Adds a line with a metadata set and its own place in what it came from.
    pub fn push(&mut self, stream: u32, set: u32, line: &LineRef<'_>) {
        let metadata = self.place(stream, set, line.text);
        let columns = &mut self.columns;
        // Stores tell by a line's last byte whether they have it, so that what is left out between lines changes nothing.
        let source_end = match self.origin {
            Origin::Pushed => 0,
            Origin::Tailed { start, .. } => line.source.1 - start,
        };
        columns.stream.push(stream);
        columns.t_ns.push(line.t_ns);
        columns.metadata.push(metadata);
        columns.text.push_str(line.text);
        columns.text_end.push(u32::try_from(columns.text.len()).expect("a request is far below 4 GiB"));
        columns.source_end.push(u32::try_from(source_end).expect("a record is far below 4 GiB"));
    }

    /// Where in the batch a set is with the line's level.
    fn place(&mut self, stream: u32, set: u32, text: &str) -> u32 {
        let Set { labels, level, places } = &mut self.sets[set as usize];
        let of_stream = || self.stream_levels[stream as usize].as_deref();
        // What the line says in Loki's own label comes before what its stream says.
        let found = match (&self.discovery.levels, &level) {
            (None, _) => "",
            (Some(_), Some(level)) if labels.get(LEVEL).is_some() => level,
            (Some(_), _) if of_stream().is_some() => of_stream().unwrap_or_default(),
            (Some(_), Some(level)) => level,
            (Some(levels), None) => levels.of_text(text),
        };
        if let Some((_, place)) = places.iter().find(|(level, _)| level == found) {
            return *place;
        }
        let whole = if found.is_empty() { labels.clone() } else { labels.with(LEVEL, found) };
        let place = if whole.is_empty() { 0 } else { self.metadata.len() as u32 };
        places.push((found.to_owned(), place));
        if place > 0 {
            self.metadata.push(whole);
        }
        place
    }

    pub fn is_empty(&self) -> bool {
        self.columns.t_ns.is_empty()
    }

    pub fn len(&self) -> usize {
        self.columns.t_ns.len()
    }

    pub fn into_batch(self) -> LogBatch {
        let Collected { tenant, origin, streams, metadata, columns, .. } = self;
        let batch = LogBatch::from_columns(tenant, origin, streams, metadata, columns);
        batch.unwrap_or_else(|fault| panic!("lines do not make a batch: {fault}"))
    }
}

/// A level in the words that all lines have, or as it is.
fn meant(level: &str) -> String {
    known_level(level.as_bytes()).unwrap_or(level).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of a line of a stream with this metadata.
    fn check(stream: &[(&str, &str)], metadata: &[(&str, &str)], text: &str, expected: (&str, &str)) {
        let discovery = Arc::new(Discovery::new(&LogLimits::default()));
        let mut batch = LogBatch::new("t", Origin::Pushed);
        batch.streams.push(Labels::from_pairs(stream.iter().copied()));
        batch.metadata.push(Labels::from_pairs(metadata.iter().copied()));
        batch.push(0, 7, text, u32::from(!metadata.is_empty()), 0);
        let found = discovery.of_batch(batch);
        let line = found.line(0);
        let (stream, metadata) = (&found.streams[line.stream as usize], &found.metadata[line.metadata as usize]);
        assert_eq!((stream.to_string().as_str(), metadata.to_string().as_str()), expected);
        assert_eq!(discovery.of_batch(found.clone()), found, "what was looked at stays");
    }

    #[test]
    fn services_and_levels_are_found() {
        let info = r#"{detected_level="info"}"#;
        check(&[("app", "a"), ("job", "b")], &[], "INFO x", (r#"{app="a", job="b", service_name="a"}"#, info));
        check(&[("x", "y")], &[], "x", (r#"{service_name="unknown_service", x="y"}"#, r#"{detected_level="unknown"}"#));
        check(
            &[("service_name", "s")],
            &[("a", "b")],
            "info",
            (r#"{service_name="s"}"#, r#"{a="b", detected_level="info"}"#),
        );
        let named = r#"{level="WRN", service_name="s"}"#;
        let stream = [("service_name", "s"), ("level", "WRN")];
        check(&stream, &[], "info", (named, r#"{detected_level="warn"}"#));
        check(&stream, &[("level", "err")], "", (named, r#"{detected_level="warn", level="err"}"#));
        check(&stream, &[("detected_level", "Error")], "", (named, r#"{detected_level="error"}"#));
        let stream = [("service_name", "s")];
        let name = r#"{service_name="s"}"#;
        check(&stream, &[("severity_text", "odd")], "info", (name, r#"{detected_level="odd", severity_text="odd"}"#));
        check(
            &stream,
            &[("severity_number", "17")],
            "info",
            (name, r#"{detected_level="error", severity_number="17"}"#),
        );
    }

    #[test]
    fn nothing_is_found_where_nothing_is_sought() {
        let limits =
            LogLimits { discover_service_name: Vec::new(), discover_log_levels: false, ..LogLimits::default() };
        let mut batch = LogBatch::new("t", Origin::Pushed);
        batch.streams.push(Labels::from_pairs([("app", "a")]));
        batch.push(0, 7, "info", 0, 0);
        assert_eq!(Arc::new(Discovery::new(&limits)).of_batch(batch.clone()), batch);
    }
}
