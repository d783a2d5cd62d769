//! Texts that many series share, each kept once: names and values of labels, and series as targets write them. Targets of one
//! kind write the same, so that a thousand of them need hardly more texts than one.
//!
//! Texts that nobody uses any more are dropped when there are twice as many as were in use at the last such look; what is
//! kept is bounded by what is used.

use std::collections::HashSet;
use std::sync::Arc;

use model::{Label, Labels};
use parking_lot::Mutex;

/// Below this nobody looks for unused texts.
const MIN_SWEPT: usize = 10_000;

#[derive(Clone, Default)]
pub struct Texts(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    texts: HashSet<Arc<str>>,
    /// How many were in use at the last look.
    used: usize,
}

impl Texts {
    pub fn share(&self, text: &str) -> Arc<str> {
        self.0.lock().share(text)
    }

    pub fn share_labels(&self, labels: &Labels) -> Labels {
        let mut known = self.0.lock();
        let share = |label: &Label| Label { name: known.share(&label.name), value: known.share(&label.value) };
        Labels::from_sorted(labels.iter().map(share))
    }
}

impl Known {
    fn share(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return known.clone();
        }
        if self.texts.len() >= MIN_SWEPT.max(2 * self.used) {
            self.texts.retain(|text| Arc::strong_count(text) > 1);
            self.used = self.texts.len();
        }
        let text: Arc<str> = text.into();
        self.texts.insert(text.clone());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_in_use_are_kept_once_and_others_go() {
        let texts = Texts::default();
        let labels = Labels::from_pairs([("name", "value")]);
        let (one, two) = (texts.share_labels(&labels), texts.share_labels(&labels));
        assert_eq!(one, labels);
        let same = |a: &Labels, b: &Labels| Arc::ptr_eq(&a.as_slice()[0].value, &b.as_slice()[0].value);
        assert!(same(&one, &two) && !same(&one, &labels));
        for n in 0..3 * MIN_SWEPT {
            texts.share(&n.to_string());
        }
        assert!(texts.0.lock().texts.len() <= MIN_SWEPT, "{}", texts.0.lock().texts.len());
        assert!(same(&one, &texts.share_labels(&labels)), "what is in use stays");
    }
}
