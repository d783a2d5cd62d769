//! Label sets: sorted, unique by name, cheap to clone.

use std::fmt;
use std::sync::Arc;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// The label that holds a metric's name.
pub const METRIC_NAME: &str = "__name__";

/// One name and value. A label with an empty value equals an absent one, so it is never stored (one exception:
/// [`Labels::with_empty_values`]).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    pub name: Arc<str>,
    pub value: Arc<str>,
}

/// A label set, sorted by name, each name once, no empty values.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Arc<[Label]>);

impl Default for Labels {
    fn default() -> Self {
        Labels(Arc::from([]))
    }
}

impl Labels {
    /// From pairs in any order; a later pair of the same name wins, empty values vanish.
    pub fn from_pairs<N: Into<Arc<str>>, V: Into<Arc<str>>>(pairs: impl IntoIterator<Item = (N, V)>) -> Labels {
        let mut builder = LabelsBuilder::default();
        for (name, value) in pairs {
            builder.set(name, value);
        }
        builder.build()
    }

    /// From labels that are sorted by name, each name once, none empty: as a set of ours was written.
    pub fn from_sorted(labels: impl IntoIterator<Item = Label>) -> Labels {
        let labels: Arc<[Label]> = labels.into_iter().collect();
        debug_assert!(
            labels.is_sorted_by(|a, b| a.name < b.name) && labels.iter().all(|label| !label.value.is_empty())
        );
        Labels(labels)
    }

    /// Labels as they are, sorted by name, each once, with those of empty value: in results of log queries, and in a
    /// line's structured metadata, an empty label differs from an absent one.
    pub fn with_empty_values(labels: impl IntoIterator<Item = Label>) -> Labels {
        let labels: Arc<[Label]> = labels.into_iter().collect();
        debug_assert!(labels.is_sorted_by(|a, b| a.name < b.name));
        Labels(labels)
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.binary_search_by(|label| label.name.as_ref().cmp(name)).ok()?;
        Some(&self.0[found].value)
    }

    /// The value of `__name__`, if any.
    pub fn metric_name(&self) -> Option<&str> {
        self.get(METRIC_NAME)
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Label> {
        self.0.iter()
    }

    /// The labels, sorted by name.
    pub fn as_slice(&self) -> &[Label] {
        &self.0
    }

    /// Where the set lies: two clones of one set share it, and nothing else does as long as one of them lives.
    pub fn address(&self) -> usize {
        self.0.as_ptr().addr()
    }

    /// Whether somebody else keeps the set too.
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// These labels without the named ones.
    pub fn without(&self, names: &[&str]) -> Labels {
        if self.iter().all(|label| !names.contains(&label.name.as_ref())) {
            return self.clone();
        }
        Labels(self.iter().filter(|label| !names.contains(&label.name.as_ref())).cloned().collect())
    }

    /// Only the named labels.
    pub fn only(&self, names: &[&str]) -> Labels {
        Labels(self.iter().filter(|label| names.contains(&label.name.as_ref())).cloned().collect())
    }

    /// These labels with one set (or, for an empty value, removed).
    pub fn with(&self, name: &str, value: &str) -> Labels {
        let mut builder = self.to_builder();
        builder.set(name, value);
        builder.build()
    }

    pub fn to_builder(&self) -> LabelsBuilder {
        LabelsBuilder { labels: self.0.to_vec() }
    }

    /// The stable 64-bit identity of this set under a tenant. It is on the bus and on disk: never change it
    /// (a golden test pins it). xxh3 over tenant, then name and value of each label, each followed by 0xFF.
    pub fn hash(&self, tenant: &str) -> u64 {
        self.hash_skipping(tenant, "")
    }

    /// The partition key of a series: like [`Labels::hash`] but without `le`, so that the buckets of one
    /// classic histogram share a partition.
    pub fn partition_hash(&self, tenant: &str) -> u64 {
        self.hash_skipping(tenant, "le")
    }

    fn hash_skipping(&self, tenant: &str, skipped: &str) -> u64 {
        let kept = self.iter().filter(|label| label.name.as_ref() != skipped);
        hash_pairs(tenant, kept.map(|label| (label.name.as_ref(), label.value.as_ref())))
    }
}

/// Label sets that are not longer are hashed from one buffer.
const SHORT_BYTES: usize = 240;

/// The hash of a label set that nobody has made yet, by its names, sorted, and values.
pub fn hash_pairs<'a>(tenant: &str, pairs: impl Iterator<Item = (&'a str, &'a str)>) -> u64 {
    // Most sets are short: hashed at once, which gives the same.
    let (mut short, mut length, mut long) = ([0; SHORT_BYTES], 0, None::<Xxh3>);
    for text in std::iter::once(tenant).chain(pairs.flat_map(|(name, value)| [name, value])) {
        for part in [text.as_bytes(), &[0xFF]] {
            match (&mut long, short.get_mut(length..length + part.len())) {
                (None, Some(room)) => {
                    room.copy_from_slice(part);
                    length += part.len();
                }
                (Some(hasher), _) => hasher.update(part),
                (None, None) => {
                    let mut hasher = Xxh3::new();
                    hasher.update(&short[..length]);
                    hasher.update(part);
                    long = Some(hasher);
                }
            }
        }
    }
    long.map_or_else(|| xxh3_64(&short[..length]), |hasher| hasher.digest())
}

impl<'a> IntoIterator for &'a Labels {
    type Item = &'a Label;
    type IntoIter = std::slice::Iter<'a, Label>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// `{a="b", c="d"}`, values quoted as in PromQL.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, label) in self.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{}={:?}", label.name, label.value)?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|label| (&label.name, &label.value)))
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MapVisitor;
        impl<'de> Visitor<'de> for MapVisitor {
            type Value = Labels;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a map of label names to values")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
                let mut builder = LabelsBuilder::default();
                while let Some((name, value)) = map.next_entry::<String, String>()? {
                    builder.set(name, value);
                }
                Ok(builder.build())
            }
        }
        deserializer.deserialize_map(MapVisitor)
    }
}

/// Builds a label set out of order.
#[derive(Debug, Clone, Default)]
pub struct LabelsBuilder {
    labels: Vec<Label>,
}

impl LabelsBuilder {
    /// Sets a label; an empty value removes it.
    pub fn set<N: Into<Arc<str>>, V: Into<Arc<str>>>(&mut self, name: N, value: V) -> &mut Self {
        let (name, value) = (name.into(), value.into());
        let place = self.labels.binary_search_by(|label| label.name.cmp(&name));
        match (place, value.is_empty()) {
            (Ok(at), true) => drop(self.labels.remove(at)),
            (Ok(at), false) => self.labels[at].value = value,
            (Err(_), true) => {}
            (Err(at), false) => self.labels.insert(at, Label { name, value }),
        }
        self
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.labels.binary_search_by(|label| label.name.as_ref().cmp(name)).ok()?;
        Some(&self.labels[found].value)
    }

    pub fn remove(&mut self, name: &str) -> &mut Self {
        self.labels.retain(|label| label.name.as_ref() != name);
        self
    }

    pub fn build(self) -> Labels {
        Labels(self.labels.into())
    }
}

/// `[a-zA-Z_][a-zA-Z0-9_]*`: what needs no quotes in a selector.
pub fn is_label_name(name: &str) -> bool {
    let mut chars = name.bytes();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == b'_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == b'_')
}

/// A label name that may also hold colons.
pub fn is_metric_name(name: &str) -> bool {
    let mut chars = name.bytes();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == b'_' || c == b':')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b':')
}

/// The name behind a value-escaped one: `U__la_2d_bel` is `la-bel` (Prometheus' escaping scheme `values`). What is not
/// escaped, or escaped wrongly, stays as it is.
pub fn unescape_name(name: &str) -> String {
    name.strip_prefix("U__").and_then(unescape).unwrap_or_else(|| name.to_owned())
}

fn unescape(mut rest: &str) -> Option<String> {
    let mut plain = String::new();
    while let Some(at) = rest.find('_') {
        plain += &rest[..at];
        let (code, after) = rest[at + 1..].split_once('_')?;
        plain.push(if code.is_empty() { '_' } else { char::from_u32(u32::from_str_radix(code, 16).ok()?)? });
        rest = after;
    }
    Some(plain + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_sorted_unique_and_without_empty_values() {
        let labels = Labels::from_pairs([("b", "2"), ("a", "1"), ("c", ""), ("b", "3")]);
        assert_eq!(labels.to_string(), r#"{a="1", b="3"}"#);
        assert_eq!(labels.get("b"), Some("3"));
        assert_eq!(labels.get("c"), None);
        assert_eq!(labels.with("a", "").to_string(), r#"{b="3"}"#);
        assert_eq!(labels.without(&["b"]).to_string(), r#"{a="1"}"#);
    }

    #[test]
    fn long_sets_are_hashed_as_short_ones() {
        for length in 0..2 * SHORT_BYTES {
            let value = "x".repeat(length);
            let mut hasher = Xxh3::new();
            ["tenant", "a", &value, "b", "c"].iter().for_each(|text| {
                hasher.update(text.as_bytes());
                hasher.update(&[0xFF]);
            });
            let pairs = [("a", value.as_str()), ("b", "c")];
            assert_eq!(hash_pairs("tenant", pairs.into_iter()), hasher.digest(), "{length}");
        }
    }

    /// The hash is the partition key and the series identity on the bus and on disk.
    #[test]
    fn the_hash_never_changes() {
        let labels = Labels::from_pairs([(METRIC_NAME, "up"), ("job", "node"), ("le", "0.5")]);
        assert_eq!(labels.hash("default"), 6_750_464_546_271_751_957, "pinned");
        assert_eq!(labels.partition_hash("default"), labels.without(&["le"]).hash("default"));
        assert_ne!(labels.hash("default"), labels.hash("other"));
    }

    #[test]
    fn escaped_names_come_back() {
        for (escaped, plain) in
            [("U__la_2d_bel", "la-bel"), ("U__a__b", "a_b"), ("U___fc_", "ü"), ("plain_x", "plain_x")]
        {
            assert_eq!(unescape_name(escaped), plain);
        }
        assert_eq!(unescape_name("U__broken_zz"), "U__broken_zz");
    }

    #[test]
    fn json_is_a_map() {
        let labels = Labels::from_pairs([("b", "2"), ("a", "1")]);
        let json = serde_json::to_string(&labels).expect("labels serialise");
        assert_eq!(json, r#"{"a":"1","b":"2"}"#);
        assert_eq!(serde_json::from_str::<Labels>(&json).expect("and come back"), labels);
    }
}
