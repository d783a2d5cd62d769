//! What targets of one kind have in common, each kept once, so that a thousand of them need hardly more than one: series as
//! they are written, what the texts say, and what is said of metrics.
//!
//! What nobody uses any more is dropped when there is twice as much as was in use at the last such look; what is kept is
//! bounded by what is used.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use model::exposition::read_series;
use model::{Label, Labels, MetricMetadata};
use parking_lot::Mutex;

/// Below this nobody looks for what is unused.
const MIN_SWEPT: usize = 10_000;

/// A series as targets write it.
#[derive(Debug)]
pub struct Written {
    pub text: Box<str>,
    /// What it says.
    pub labels: Labels,
}

#[derive(Clone, Default)]
pub struct Texts(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    texts: Pool<Arc<str>>,
    series: Pool<ByText>,
    metadata: Pool<Said>,
}

impl Texts {
    /// A series of this text; an error where it says none.
    pub fn series(&self, text: &str) -> Result<Arc<Written>, &'static str> {
        if let Some(known) = self.0.lock().series.items.get(text) {
            return Ok(known.0.clone());
        }
        let labels = read_series(text)?.build();
        let mut known = self.0.lock();
        let labels = known.share_labels(&labels);
        Ok(known.series.share(ByText(Arc::new(Written { text: text.into(), labels }))).0)
    }

    pub fn share_labels(&self, labels: &Labels) -> Labels {
        self.0.lock().share_labels(labels)
    }

    pub fn share_metadata(&self, metadata: Vec<MetricMetadata>) -> Arc<[MetricMetadata]> {
        self.0.lock().metadata.share(Said(metadata.into())).0
    }
}

impl Known {
    fn share_labels(&mut self, labels: &Labels) -> Labels {
        let mut share = |text: &Arc<str>| self.texts.share(text.clone());
        Labels::from_sorted(labels.iter().map(|label| Label { name: share(&label.name), value: share(&label.value) }))
    }
}

/// Equal things, of which the first is kept.
struct Pool<T> {
    items: HashSet<T>,
    /// How many were in use at the last look.
    used: usize,
}

impl<T> Default for Pool<T> {
    fn default() -> Pool<T> {
        Pool { items: HashSet::new(), used: 0 }
    }
}

impl<T: Shared> Pool<T> {
    fn share(&mut self, item: T) -> T {
        if let Some(known) = self.items.get(&item) {
            return known.clone();
        }
        if self.items.len() >= MIN_SWEPT.max(2 * self.used) {
            self.items.retain(T::is_used);
            self.used = self.items.len();
        }
        self.items.insert(item.clone());
        item
    }
}

/// What a pool holds: a pointer that counts its holders.
trait Shared: Clone + Eq + Hash {
    /// Whether somebody holds it beside the pool.
    fn is_used(&self) -> bool;
}

impl Shared for Arc<str> {
    fn is_used(&self) -> bool {
        Arc::strong_count(self) > 1
    }
}

#[derive(Clone)]
struct ByText(Arc<Written>);

impl Shared for ByText {
    fn is_used(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

impl PartialEq for ByText {
    fn eq(&self, other: &ByText) -> bool {
        self.0.text == other.0.text
    }
}

impl Eq for ByText {}

impl Hash for ByText {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.text.hash(state);
    }
}

impl Borrow<str> for ByText {
    fn borrow(&self) -> &str {
        &self.0.text
    }
}

#[derive(Clone, PartialEq, Eq)]
struct Said(Arc<[MetricMetadata]>);

impl Shared for Said {
    fn is_used(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

impl Hash for Said {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.iter().for_each(|one| (&one.name, &one.help).hash(state));
    }
}

#[cfg(test)]
mod tests {
    use model::MetricKind;

    use super::*;

    #[test]
    fn what_is_in_use_is_kept_once_and_the_rest_goes() {
        let texts = Texts::default();
        let check = |text: &str, expected: Labels| {
            let (one, two) = (texts.series(text).expect("a series"), texts.series(text).expect("a series"));
            assert!(Arc::ptr_eq(&one, &two));
            assert_eq!((&*one.text, &one.labels), (text, &expected));
            one
        };
        let kept = check("a{b=\"c\"}", Labels::from_pairs([("__name__", "a"), ("b", "c")]));
        let other = check("d{b=\"c\"}", Labels::from_pairs([("__name__", "d"), ("b", "c")]));
        assert!(Arc::ptr_eq(&kept.labels.as_slice()[1].value, &other.labels.as_slice()[1].value));
        assert!(texts.series("a{").is_err());
        for n in 0..3 * MIN_SWEPT {
            texts.series(&format!("a{{b=\"{n}\"}}")).expect("a series");
        }
        let known = texts.0.lock();
        assert!(known.series.items.len() <= MIN_SWEPT, "{}", known.series.items.len());
        assert!(known.texts.items.len() <= 2 * MIN_SWEPT, "{}", known.texts.items.len());
        drop(known);
        assert!(Arc::ptr_eq(&kept, &texts.series(&kept.text).expect("a series")), "what is in use stays");
    }

    #[test]
    fn what_is_said_of_metrics_is_kept_once() {
        let texts = Texts::default();
        let said = |help: &str| {
            let (name, help) = ("a".to_owned(), help.to_owned());
            vec![MetricMetadata { name, kind: MetricKind::Counter, help, unit: String::new() }]
        };
        let one = texts.share_metadata(said("b"));
        assert!(Arc::ptr_eq(&one, &texts.share_metadata(said("b"))));
        assert_eq!(*texts.share_metadata(said("c")), *said("c"));
    }
}
