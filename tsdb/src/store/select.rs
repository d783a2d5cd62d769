//! Reading the store: samples for the query engine, and listings of names, values and series.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use model::{Labels, Matcher};
use query::{QueryError, SelectedSeries, Series, SeriesSelect, Visit};

use super::Store;
use super::columns::Columns;

/// One listing's request.
pub struct Listing<'a> {
    pub tenant: &'a str,
    /// Alternatives, each a selector; none means all series.
    pub selectors: &'a [Vec<Matcher>],
    pub start_ms: i64,
    pub end_ms: i64,
    pub deadline: Option<Instant>,
}

impl Series for Store {
    fn select(
        &self,
        request: &SeriesSelect<'_>,
        visit: &mut dyn FnMut(SelectedSeries) -> Visit,
    ) -> Result<(), QueryError> {
        if request.start_ms > request.end_ms {
            return Ok(());
        }
        let view = self.view.read();
        let head = view.head.tenant(request.tenant);
        let found = head.map(|head| head.gather(request.matchers, request.start_ms, request.end_ms));
        drop(view);
        for (labels, columns) in found.into_iter().flatten() {
            if visit(selected(labels, columns)) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }
}

fn selected(labels: Labels, columns: Columns) -> SelectedSeries {
    SelectedSeries { labels, timestamps_ms: columns.timestamps_ms, values: columns.values }
}

impl Store {
    /// Label sets of the series that have a sample in the range, sorted.
    pub fn series(&self, listing: &Listing<'_>) -> Result<BTreeSet<Labels>, QueryError> {
        let mut found = BTreeSet::new();
        let everything = [Vec::new()];
        let selectors = if listing.selectors.is_empty() { &everything[..] } else { listing.selectors };
        for matchers in selectors {
            let view = self.view.read();
            let Some(head) = view.head.tenant(listing.tenant) else { continue };
            for id in &head.postings().select(matchers) {
                if head.has_sample(id, listing.start_ms, listing.end_ms) {
                    found.insert(head.labels(id).clone());
                }
            }
        }
        Ok(found)
    }

    pub fn label_names(&self, listing: &Listing<'_>) -> Result<BTreeSet<Arc<str>>, QueryError> {
        let series = self.series(listing)?;
        Ok(series.iter().flatten().map(|label| label.name.clone()).collect())
    }

    pub fn label_values(&self, listing: &Listing<'_>, name: &str) -> Result<BTreeSet<Arc<str>>, QueryError> {
        let series = self.series(listing)?;
        let labels = series.iter().flatten();
        Ok(labels.filter(|label| label.name.as_ref() == name).map(|label| label.value.clone()).collect())
    }
}
