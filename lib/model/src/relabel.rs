//! Relabelling: Prometheus' eleven actions on a label set (Prometheus `model/relabel`).

use md5::{Digest, Md5};
use regex::Regex;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Labels, is_label_name};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RelabelAction {
    #[default]
    Replace,
    Keep,
    Drop,
    KeepEqual,
    DropEqual,
    HashMod,
    LabelMap,
    LabelDrop,
    LabelKeep,
    Lowercase,
    Uppercase,
}

/// One step, as written in `relabel_configs`. The regex is anchored at both ends.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RelabelConfig {
    pub source_labels: Vec<String>,
    pub separator: String,
    pub target_label: String,
    #[serde(deserialize_with = "anchored_regex", serialize_with = "bare_regex")]
    pub regex: Regex,
    pub modulus: u64,
    pub replacement: String,
    pub action: RelabelAction,
}

impl Default for RelabelConfig {
    fn default() -> Self {
        RelabelConfig {
            source_labels: Vec::new(),
            separator: ";".to_owned(),
            target_label: String::new(),
            regex: Regex::new("^(?s:(.*))$").expect("a constant pattern"),
            modulus: 0,
            replacement: "$1".to_owned(),
            action: RelabelAction::Replace,
        }
    }
}

fn anchored_regex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Regex, D::Error> {
    let pattern = String::deserialize(deserializer)?;
    Regex::new(&format!("^(?s:{pattern})$")).map_err(serde::de::Error::custom)
}

/// As it was written.
fn bare_regex<S: Serializer>(regex: &Regex, serializer: S) -> Result<S::Ok, S::Error> {
    let pattern = regex.as_str();
    serializer.serialize_str(pattern.strip_prefix("^(?s:").and_then(|p| p.strip_suffix(")$")).unwrap_or(pattern))
}

/// Applies the steps in order; `None` means the set was dropped.
pub fn relabel(labels: &Labels, steps: &[RelabelConfig]) -> Option<Labels> {
    let mut labels = labels.clone();
    for step in steps {
        labels = step.apply(&labels)?;
    }
    Some(labels)
}

impl RelabelConfig {
    fn apply(&self, labels: &Labels) -> Option<Labels> {
        let source = self.source(labels);
        let target = || labels.get(&self.target_label).unwrap_or("");
        let keep_if = |keep: bool| keep.then(|| labels.clone());
        match self.action {
            RelabelAction::Replace => Some(self.replace(labels, &source)),
            RelabelAction::Keep => keep_if(self.regex.is_match(&source)),
            RelabelAction::Drop => keep_if(!self.regex.is_match(&source)),
            RelabelAction::KeepEqual => keep_if(source == target()),
            RelabelAction::DropEqual => keep_if(source != target()),
            RelabelAction::HashMod => Some(labels.with(&self.target_label, &self.hash_mod(&source).to_string())),
            RelabelAction::LabelMap => Some(self.map_names(labels)),
            RelabelAction::LabelDrop => Some(self.filter_names(labels, false)),
            RelabelAction::LabelKeep => Some(self.filter_names(labels, true)),
            RelabelAction::Lowercase => Some(labels.with(&self.target_label, &source.to_lowercase())),
            RelabelAction::Uppercase => Some(labels.with(&self.target_label, &source.to_uppercase())),
        }
    }

    fn source(&self, labels: &Labels) -> String {
        let values: Vec<&str> = self.source_labels.iter().map(|name| labels.get(name).unwrap_or("")).collect();
        values.join(&self.separator)
    }

    fn replace(&self, labels: &Labels, source: &str) -> Labels {
        let Some(captures) = self.regex.captures(source) else { return labels.clone() };
        let (mut name, mut value) = (String::new(), String::new());
        captures.expand(&self.target_label, &mut name);
        captures.expand(&self.replacement, &mut value);
        if is_label_name(&name) { labels.with(&name, &value) } else { labels.clone() }
    }

    /// The last eight bytes of the MD5, big-endian, modulo `modulus`.
    fn hash_mod(&self, source: &str) -> u64 {
        let digest = Md5::digest(source.as_bytes());
        let tail = digest[8..].iter().fold(0u64, |sum, byte| (sum << 8) | u64::from(*byte));
        tail % self.modulus.max(1)
    }

    fn map_names(&self, labels: &Labels) -> Labels {
        let mut mapped = labels.to_builder();
        for label in labels {
            if self.regex.is_match(&label.name) {
                let name = self.regex.replace(&label.name, self.replacement.as_str()).into_owned();
                mapped.set(name, label.value.clone());
            }
        }
        mapped.build()
    }

    fn filter_names(&self, labels: &Labels, keep_matching: bool) -> Labels {
        let kept = labels.iter().filter(|label| self.regex.is_match(&label.name) == keep_matching);
        Labels::from_pairs(kept.map(|label| (label.name.clone(), label.value.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(step: serde_json::Value, expected: Option<&str>) {
        let step: RelabelConfig = serde_json::from_value(step).expect("a good step");
        let labels = Labels::from_pairs([("a", "Foo"), ("b", "bar"), ("c", "bar")]);
        let got = relabel(&labels, std::slice::from_ref(&step)).map(|labels| labels.to_string());
        assert_eq!(got.as_deref(), expected, "{step:?}");
    }

    #[test]
    fn every_action() {
        use serde_json::json;
        let all = r#"{a="Foo", b="bar", c="bar"}"#;
        check(
            json!({"source_labels": ["a", "b"], "regex": "F(.*);b(.*)", "target_label": "d", "replacement": "$1-$2"}),
            Some(r#"{a="Foo", b="bar", c="bar", d="oo-ar"}"#),
        );
        check(json!({"source_labels": ["a"], "regex": "nope", "target_label": "d"}), Some(all));
        check(json!({"source_labels": ["a"], "regex": "F", "action": "keep"}), None);
        check(json!({"source_labels": ["a"], "regex": "F.*", "action": "drop"}), None);
        check(json!({"source_labels": ["b"], "target_label": "c", "action": "keepequal"}), Some(all));
        check(json!({"source_labels": ["b"], "target_label": "c", "action": "dropequal"}), None);
        // printf bar | md5sum: the last 16 hex digits modulo 1000.
        check(
            json!({"source_labels": ["c"], "target_label": "d", "action": "hashmod", "modulus": 1000}),
            Some(r#"{a="Foo", b="bar", c="bar", d="922"}"#),
        );
        check(
            json!({"regex": "(b)", "action": "labelmap", "replacement": "x_$1"}),
            Some(r#"{a="Foo", b="bar", c="bar", x_b="bar"}"#),
        );
        check(json!({"regex": "b|c", "action": "labeldrop"}), Some(r#"{a="Foo"}"#));
        check(json!({"regex": "b|c", "action": "labelkeep"}), Some(r#"{b="bar", c="bar"}"#));
        check(
            json!({"source_labels": ["a"], "target_label": "a", "action": "lowercase"}),
            Some(r#"{a="foo", b="bar", c="bar"}"#),
        );
        check(json!({"source_labels": ["a"], "target_label": "b", "replacement": ""}), Some(r#"{a="Foo", c="bar"}"#));
    }
}
