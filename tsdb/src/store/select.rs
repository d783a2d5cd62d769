//! Reading the store: samples for the query engine, and listings of names, values and series.
//!
//! A read takes its sources at one moment: the head's matching samples, the frozen head and the list of parts. What is
//! published or merged meanwhile changes nothing for it.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use model::{Labels, Matcher};
use query::{QueryError, SelectedSeries, Series, SeriesSelect, Visit};

use super::columns::Columns;
use super::head::TenantHead;
use super::part::Cursor;
use super::{Frozen, LivePart, Store, StoreError, View};

/// One listing's request.
pub struct Listing<'a> {
    pub tenant: &'a str,
    /// Alternatives, each a selector; none means all series.
    pub selectors: &'a [Vec<Matcher>],
    pub start_ms: i64,
    pub end_ms: i64,
    pub deadline: Option<Instant>,
}

/// Where a series' samples are: of a part yet to be read, or copied from a head.
enum Place {
    Part { source: usize, id: u32 },
    Head(Columns),
}

impl From<StoreError> for QueryError {
    fn from(error: StoreError) -> QueryError {
        QueryError::Storage(error.to_string())
    }
}

impl View {
    /// The parts of a tenant that reach into the inclusive range, oldest first.
    fn parts(&self, tenant: &str, start_ms: i64, end_ms: i64) -> Vec<LivePart> {
        let reaches = |live: &&LivePart| {
            let summary = live.entry.summary;
            live.entry.tenant == tenant && summary.min_ms <= end_ms && summary.max_ms >= start_ms
        };
        self.parts.iter().filter(reaches).cloned().collect()
    }
}

fn frozen_head<'a>(frozen: &'a Option<Arc<Frozen>>, tenant: &str) -> Option<&'a TenantHead> {
    frozen.as_ref()?.head.tenant(tenant)
}

impl Series for Store {
    fn select(
        &self,
        request: &SeriesSelect<'_>,
        visit: &mut dyn FnMut(SelectedSeries) -> Visit,
    ) -> Result<(), QueryError> {
        let SeriesSelect { tenant, matchers, start_ms, end_ms, deadline } = *request;
        if start_ms > end_ms {
            return Ok(());
        }
        let (parts, frozen, latest) = {
            let view = self.view.read();
            let latest = view.head.tenant(tenant).map(|head| head.gather(matchers, start_ms, end_ms));
            (view.parts(tenant, start_ms, end_ms), view.frozen.clone(), latest.unwrap_or_default())
        };
        // From the oldest source to the newest; the sort below is stable.
        let mut found: Vec<(Labels, Place)> = Vec::new();
        for (source, live) in parts.iter().enumerate() {
            check_deadline(deadline)?;
            for id in &live.part.select(matchers) {
                if live.part.reaches(id, start_ms, end_ms) {
                    found.push((live.part.labels(id), Place::Part { source, id }));
                }
            }
        }
        let earlier = frozen_head(&frozen, tenant).map(|head| head.gather(matchers, start_ms, end_ms));
        let heads = earlier.into_iter().flatten().chain(latest);
        found.extend(heads.map(|(labels, columns)| (labels, Place::Head(columns))));
        found.sort_by(|a, b| a.0.cmp(&b.0));

        let mut cursors: Vec<Cursor> = parts.iter().map(|_| Cursor::default()).collect();
        let mut found = found.into_iter().peekable();
        while let Some((labels, place)) = found.next() {
            check_deadline(deadline)?;
            let mut read = |place| match place {
                Place::Head(columns) => Ok(columns),
                Place::Part { source, id } => parts[source].part.read(id, start_ms, end_ms, &mut cursors[source]),
            };
            let mut columns = read(place)?;
            while let Some((_, place)) = found.next_if(|(next, _)| *next == labels) {
                columns.merge_later(read(place)?);
            }
            let Columns { timestamps_ms, values } = columns;
            if !values.is_empty() && visit(SelectedSeries { labels, timestamps_ms, values }) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }
}

fn check_deadline(deadline: Option<Instant>) -> Result<(), QueryError> {
    let is_late = deadline.is_some_and(|deadline| Instant::now() > deadline);
    if is_late { Err(QueryError::Timeout("query execution")) } else { Ok(()) }
}

impl Store {
    /// Hands every series that a listing asks for to `visit`, some more than once. Parts answer by their blocks, so that a
    /// series may be listed that has samples only close to the range.
    fn visit_series(&self, listing: &Listing<'_>, visit: &mut dyn FnMut(Labels)) -> Result<(), QueryError> {
        let Listing { tenant, selectors, start_ms, end_ms, deadline } = *listing;
        let everything = [Vec::new()];
        let selectors = if selectors.is_empty() { &everything[..] } else { selectors };
        let mut visit_head = |head: &TenantHead| {
            for id in selectors.iter().flat_map(|matchers| head.postings().select(matchers)) {
                if head.has_sample(id, start_ms, end_ms) {
                    visit(head.labels(id).clone());
                }
            }
        };
        let (parts, frozen) = {
            let view = self.view.read();
            view.head.tenant(tenant).into_iter().for_each(&mut visit_head);
            (view.parts(tenant, start_ms, end_ms), view.frozen.clone())
        };
        frozen_head(&frozen, tenant).into_iter().for_each(visit_head);
        for live in parts {
            check_deadline(deadline)?;
            for id in selectors.iter().flat_map(|matchers| live.part.select(matchers)) {
                if live.part.reaches(id, start_ms, end_ms) {
                    visit(live.part.labels(id));
                }
            }
        }
        Ok(())
    }

    /// Label sets of the series that have a sample in the range, sorted.
    pub fn series(&self, listing: &Listing<'_>) -> Result<BTreeSet<Labels>, QueryError> {
        let mut found = BTreeSet::new();
        self.visit_series(listing, &mut |labels| {
            found.insert(labels);
        })?;
        Ok(found)
    }

    pub fn label_names(&self, listing: &Listing<'_>) -> Result<BTreeSet<Arc<str>>, QueryError> {
        let mut found = BTreeSet::new();
        self.visit_series(listing, &mut |labels| {
            for label in labels.iter().filter(|label| !found.contains(&label.name)).collect::<Vec<_>>() {
                found.insert(label.name.clone());
            }
        })?;
        Ok(found)
    }

    pub fn label_values(&self, listing: &Listing<'_>, name: &str) -> Result<BTreeSet<Arc<str>>, QueryError> {
        let mut found: HashMap<Arc<str>, ()> = HashMap::new();
        self.visit_series(listing, &mut |labels| {
            let label = labels.iter().find(|label| label.name.as_ref() == name);
            if let Some(label) = label.filter(|label| !found.contains_key(&label.value)) {
                found.insert(label.value.clone(), ());
            }
        })?;
        Ok(found.into_keys().collect())
    }
}
