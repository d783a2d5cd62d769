//! Inhibition: an alert that fires keeps others quiet.
//!
//! Sources are filed per rule by the values of its `equal` labels, so that a target asks only those that agree with it,
//! however many alerts and rules there are.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use model::{Alert, Fingerprint, Labels, Matcher, matches_all};

use crate::index::MatchIndex;

#[derive(Debug, Clone, PartialEq)]
pub struct InhibitRule {
    pub source: Vec<Matcher>,
    pub target: Vec<Matcher>,
    pub equal: Vec<String>,
}

impl InhibitRule {
    /// A missing label equals an empty one.
    fn labels_agree(&self, a: &Labels, b: &Labels) -> bool {
        self.equal.iter().all(|name| a.get(name).unwrap_or("") == b.get(name).unwrap_or(""))
    }

    fn equal_hash(&self, labels: &Labels) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.equal.iter().for_each(|name| labels.get(name).unwrap_or("").hash(&mut hasher));
        hasher.finish()
    }
}

/// Sources with the same `equal` values, told apart by whether they are targets of the rule too: one that matches both
/// sides is not inhibited by another that does.
#[derive(Debug, Default)]
struct Sources {
    one_sided: BTreeSet<Fingerprint>,
    both_sided: BTreeSet<Fingerprint>,
}

/// The rules, and the alerts that are sources of each.
#[derive(Debug, Default)]
pub struct Inhibitor {
    rules: Vec<InhibitRule>,
    by_source: MatchIndex<usize>,
    by_target: MatchIndex<usize>,
    sources: Vec<HashMap<u64, Sources>>,
}

impl Inhibitor {
    pub fn new<'a>(
        rules: &[InhibitRule],
        alerts: impl Iterator<Item = (&'a Fingerprint, &'a Arc<Alert>)>,
    ) -> Inhibitor {
        let mut inhibitor = Inhibitor { rules: rules.to_vec(), ..Inhibitor::default() };
        inhibitor.sources.resize_with(rules.len(), HashMap::new);
        for (i, rule) in rules.iter().enumerate() {
            inhibitor.by_source.insert(&rule.source, i);
            inhibitor.by_target.insert(&rule.target, i);
        }
        alerts.for_each(|(fingerprint, alert)| inhibitor.insert(*fingerprint, &alert.labels));
        inhibitor
    }

    /// An alert is known from now on, firing or not.
    pub fn insert(&mut self, fingerprint: Fingerprint, labels: &Labels) {
        for i in self.by_source.candidates(labels) {
            let rule = &self.rules[*i];
            if matches_all(&rule.source, labels) {
                let sources = self.sources[*i].entry(rule.equal_hash(labels)).or_default();
                let is_target = matches_all(&rule.target, labels);
                let side = if is_target { &mut sources.both_sided } else { &mut sources.one_sided };
                side.insert(fingerprint);
            }
        }
    }

    pub fn remove(&mut self, fingerprint: Fingerprint, labels: &Labels) {
        for i in self.by_source.candidates(labels) {
            let hash = self.rules[*i].equal_hash(labels);
            if let Some(sources) = self.sources[*i].get_mut(&hash) {
                sources.one_sided.remove(&fingerprint);
                sources.both_sided.remove(&fingerprint);
                if sources.one_sided.is_empty() && sources.both_sided.is_empty() {
                    self.sources[*i].remove(&hash);
                }
            }
        }
    }

    /// The firing alerts that inhibit one: the first of each rule.
    pub fn inhibited_by(
        &self,
        target: &Labels,
        alerts: &HashMap<Fingerprint, Arc<Alert>>,
        now_ms: i64,
    ) -> Vec<Fingerprint> {
        let mut found = Vec::new();
        for i in self.by_target.candidates(target) {
            let rule = &self.rules[*i];
            if !matches_all(&rule.target, target) {
                continue;
            }
            let Some(sources) = self.sources[*i].get(&rule.equal_hash(target)) else { continue };
            let is_source = matches_all(&rule.source, target);
            let both = sources.both_sided.iter().filter(|_| !is_source);
            let inhibits = |fingerprint: &&Fingerprint| {
                let source = alerts.get(fingerprint);
                source.is_some_and(|alert| !alert.is_resolved_at(now_ms) && rule.labels_agree(&alert.labels, target))
            };
            found.extend(sources.one_sided.iter().chain(both).find(inhibits).copied());
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matchers::parse_list;

    fn alert(pairs: &[(&str, &str)], ends_at_ms: i64) -> (Fingerprint, Arc<Alert>) {
        let labels = Labels::from_pairs(pairs.iter().copied());
        let alert = Alert {
            labels,
            annotations: Labels::default(),
            starts_at_ms: 0,
            ends_at_ms,
            updated_at_ms: 0,
            generator_url: String::new(),
            timeout: false,
        };
        (alert.fingerprint(), Arc::new(alert))
    }

    fn check(source: &[(&str, &str)], target: &[(&str, &str)], expected: bool) {
        let rule = InhibitRule {
            source: parse_list("severity=critical").expect("good"),
            target: parse_list("severity=~\"warning|critical\"").expect("good"),
            equal: vec!["cluster".to_owned()],
        };
        let alerts: HashMap<_, _> = [alert(source, 100)].into();
        let mut inhibitor = Inhibitor::new(&[rule], alerts.iter());
        let target = Labels::from_pairs(target.iter().copied());
        assert_eq!(!inhibitor.inhibited_by(&target, &alerts, 50).is_empty(), expected, "{source:?} {target}");
        assert!(inhibitor.inhibited_by(&target, &alerts, 100).is_empty(), "it has ended");
        alerts.iter().for_each(|(fingerprint, alert)| inhibitor.remove(*fingerprint, &alert.labels));
        assert!(inhibitor.sources.iter().all(HashMap::is_empty), "nothing stays behind");
    }

    #[test]
    fn sources_targets_and_equal_labels() {
        check(&[("severity", "critical"), ("cluster", "a")], &[("severity", "warning"), ("cluster", "a")], true);
        check(&[("severity", "critical"), ("cluster", "a")], &[("severity", "warning"), ("cluster", "b")], false);
        check(&[("severity", "critical")], &[("severity", "warning"), ("cluster", "")], true);
        check(&[("severity", "warning")], &[("severity", "warning")], false);
        check(&[("severity", "critical"), ("x", "1")], &[("severity", "critical"), ("x", "2")], false);
    }
}
