//! Finds what might match a label set among many lists of matchers, without asking each of them.
//!
//! A list is filed under one of its matchers: one that names its values if it has one (`a="b"`, `a=~"b|c"`), else one that
//! needs its label to be there, else nowhere. A label set then asks only the lists filed under what it has.

use std::collections::{BTreeMap, HashMap};

use model::{Labels, MatchOp, Matcher};

/// Lists of matchers by id. Ids come out of [`MatchIndex::candidates`] in no order, each once.
#[derive(Debug, Clone)]
pub struct MatchIndex<T> {
    by_name: HashMap<String, Filed<T>>,
    /// Lists that a set without any of their labels may match.
    rest: Vec<T>,
}

#[derive(Debug, Clone)]
struct Filed<T> {
    by_value: BTreeMap<String, Vec<T>>,
    any_value: Vec<T>,
}

impl<T> Default for MatchIndex<T> {
    fn default() -> Self {
        MatchIndex { by_name: HashMap::new(), rest: Vec::new() }
    }
}

impl<T> Default for Filed<T> {
    fn default() -> Self {
        Filed { by_value: BTreeMap::new(), any_value: Vec::new() }
    }
}

/// A pattern of more alternatives is filed by its name alone.
const MAX_ALTERNATIVES: usize = 100;

/// The values that a matcher takes, where it names them all; none of them is empty.
fn named_values(matcher: &Matcher) -> Option<Vec<&str>> {
    let values: Vec<&str> = match matcher.op {
        MatchOp::Equal => vec![&*matcher.value],
        MatchOp::Regex => {
            let pattern = &*matcher.value;
            let inside = pattern.strip_prefix("^(?:").and_then(|rest| rest.strip_suffix(")$")).unwrap_or(pattern);
            let is_plain = !inside.contains(|c| r"\.+*?()[]{}^$".contains(c));
            is_plain.then(|| inside.split('|').collect())?
        }
        MatchOp::NotEqual | MatchOp::NotRegex => return None,
    };
    (values.len() <= MAX_ALTERNATIVES && values.iter().all(|value| !value.is_empty())).then_some(values)
}

/// The matcher by whose values a list is filed.
fn naming(matchers: &[Matcher]) -> Option<(&Matcher, Vec<&str>)> {
    let named = matchers.iter().filter_map(|matcher| Some((matcher, named_values(matcher)?)));
    named.min_by_key(|(_, values)| values.len())
}

impl<T: PartialEq + Clone> MatchIndex<T> {
    /// Where a list belongs that names no values.
    fn unnamed(&mut self, matchers: &[Matcher]) -> &mut Vec<T> {
        match matchers.iter().find(|matcher| !matcher.matches_empty()) {
            Some(matcher) => &mut self.by_name.entry(matcher.name.clone()).or_default().any_value,
            None => &mut self.rest,
        }
    }

    pub fn insert(&mut self, matchers: &[Matcher], id: T) {
        let Some((matcher, values)) = naming(matchers) else { return self.unnamed(matchers).push(id) };
        let filed = self.by_name.entry(matcher.name.clone()).or_default();
        for value in values {
            let ids = filed.by_value.entry(value.to_owned()).or_default();
            // A pattern may name a value twice.
            if ids.last() != Some(&id) {
                ids.push(id.clone());
            }
        }
    }

    pub fn remove(&mut self, matchers: &[Matcher], id: &T) {
        fn take<T: PartialEq>(ids: &mut Vec<T>, id: &T) {
            if let Some(at) = ids.iter().position(|known| known == id) {
                ids.swap_remove(at);
            }
        }
        let Some((matcher, values)) = naming(matchers) else { return take(self.unnamed(matchers), id) };
        let Some(filed) = self.by_name.get_mut(&matcher.name) else { return };
        for value in values {
            let Some(ids) = filed.by_value.get_mut(value) else { continue };
            take(ids, id);
            // What is empty now would otherwise stay for ever: values come and go.
            if ids.is_empty() {
                filed.by_value.remove(value);
            }
        }
    }
}

impl<T> MatchIndex<T> {
    /// The lists that may match; whether they do is for the caller to see.
    pub fn candidates<'a>(&'a self, labels: &'a Labels) -> impl Iterator<Item = &'a T> {
        let filed = labels.iter().filter_map(|label| Some((label, self.by_name.get(&*label.name)?)));
        let found = filed
            .flat_map(|(label, filed)| filed.by_value.get(&*label.value).into_iter().flatten().chain(&filed.any_value));
        found.chain(&self.rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matchers::parse_list;

    fn check(labels: &[(&str, &str)], expected: &[usize]) {
        let lists =
            ["a=1", "a=2,b=1", "b=~x.*", "c!=x", "a!=\"\"", "a=1,b=~.+", "d=~\"x|y|x\"", "d=~\"x|\"", "d=~\"x|y\",e=1"];
        let mut index = MatchIndex::default();
        for (id, text) in lists.iter().enumerate() {
            index.insert(&parse_list(text).expect("good"), id);
        }
        index.insert(&parse_list("a=9").expect("good"), 9);
        index.remove(&parse_list("a=9").expect("good"), &9);
        index.insert(&parse_list("d=~\"x|z\"").expect("good"), 9);
        index.remove(&parse_list("d=~\"x|z\"").expect("good"), &9);
        let labels = Labels::from_pairs(labels.iter().copied());
        let mut found: Vec<usize> = index.candidates(&labels).copied().collect();
        found.sort_unstable();
        assert_eq!(found, expected, "{labels}");
    }

    #[test]
    fn only_what_may_match_is_asked() {
        check(&[], &[3, 7]);
        check(&[("a", "1")], &[0, 3, 4, 5, 7]);
        check(&[("a", "2"), ("b", "y")], &[1, 2, 3, 4, 7]);
        check(&[("a", "9")], &[3, 4, 7]);
        check(&[("d", "x")], &[3, 6, 7]);
        check(&[("d", "y"), ("e", "1")], &[3, 6, 7, 8]);
        check(&[("d", "z")], &[3, 7]);
    }
}
