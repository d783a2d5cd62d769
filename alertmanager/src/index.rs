//! Finds what might match a label set among many lists of matchers, without asking each of them.
//!
//! A list is filed under one of its matchers: an equality with a value if it has one, else one that needs its label to
//! be there, else nowhere. A label set then asks only the lists filed under what it has.

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

impl<T: PartialEq> MatchIndex<T> {
    /// Where a list belongs.
    fn place(&mut self, matchers: &[Matcher]) -> &mut Vec<T> {
        let equal = matchers.iter().find(|matcher| matcher.op == MatchOp::Equal && !matcher.value.is_empty());
        if let Some(matcher) = equal {
            let filed = self.by_name.entry(matcher.name.clone()).or_default();
            return filed.by_value.entry(matcher.value.clone()).or_default();
        }
        match matchers.iter().find(|matcher| !matcher.matches_empty()) {
            Some(matcher) => &mut self.by_name.entry(matcher.name.clone()).or_default().any_value,
            None => &mut self.rest,
        }
    }

    pub fn insert(&mut self, matchers: &[Matcher], id: T) {
        self.place(matchers).push(id);
    }

    pub fn remove(&mut self, matchers: &[Matcher], id: &T) {
        let place = self.place(matchers);
        if let Some(at) = place.iter().position(|known| known == id) {
            place.swap_remove(at);
        }
        // What is empty now would otherwise stay for ever: values come and go.
        let equal = matchers.iter().find(|matcher| matcher.op == MatchOp::Equal && !matcher.value.is_empty());
        if let Some((matcher, filed)) = equal.and_then(|m| Some((m, self.by_name.get_mut(&m.name)?)))
            && filed.by_value.get(&matcher.value).is_some_and(Vec::is_empty)
        {
            filed.by_value.remove(&matcher.value);
        }
    }

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
        let lists = ["a=1", "a=2,b=1", "b=~x.*", "c!=x", "a!=\"\"", "a=1,b=~.+"];
        let mut index = MatchIndex::default();
        for (id, text) in lists.iter().enumerate() {
            index.insert(&parse_list(text).expect("good"), id);
        }
        index.insert(&parse_list("a=9").expect("good"), 9);
        index.remove(&parse_list("a=9").expect("good"), &9);
        let labels = Labels::from_pairs(labels.iter().copied());
        let mut found: Vec<usize> = index.candidates(&labels).copied().collect();
        found.sort_unstable();
        assert_eq!(found, expected, "{labels}");
    }

    #[test]
    fn only_what_may_match_is_asked() {
        check(&[], &[3]);
        check(&[("a", "1")], &[0, 3, 4, 5]);
        check(&[("a", "2"), ("b", "y")], &[1, 2, 3, 4]);
        check(&[("a", "9")], &[3, 4]);
    }
}
