//! Inhibition: an alert that fires keeps others quiet.

use model::{Alert, Fingerprint, Labels, Matcher, matches_all};

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

    fn inhibits(&self, source: &Labels, target: &Labels) -> bool {
        let matches_both = |labels: &Labels| matches_all(&self.source, labels) && matches_all(&self.target, labels);
        matches_all(&self.source, source)
            && matches_all(&self.target, target)
            && self.labels_agree(source, target)
            && !(matches_both(source) && matches_both(target))
    }
}

/// The firing alerts that inhibit one, by fingerprint.
pub fn inhibited_by<'a>(
    rules: &[InhibitRule],
    firing: impl Iterator<Item = &'a Alert> + Clone,
    target: &Labels,
) -> Vec<Fingerprint> {
    let candidates = rules.iter().filter(|rule| matches_all(&rule.target, target));
    let mut sources: Vec<Fingerprint> = candidates
        .flat_map(|rule| firing.clone().filter(|source| rule.inhibits(&source.labels, target)))
        .map(Alert::fingerprint)
        .collect();
    sources.sort_unstable();
    sources.dedup();
    sources
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matchers::parse_list;

    fn check(source: &[(&str, &str)], target: &[(&str, &str)], expected: bool) {
        let rule = InhibitRule {
            source: parse_list("severity=critical").expect("good"),
            target: parse_list("severity=~\"warning|critical\"").expect("good"),
            equal: vec!["cluster".to_owned()],
        };
        let labels = |pairs: &[(&str, &str)]| Labels::from_pairs(pairs.iter().copied());
        assert_eq!(rule.inhibits(&labels(source), &labels(target)), expected, "{source:?} {target:?}");
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
