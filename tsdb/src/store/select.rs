//! Reading the store: samples for the query engine, and listings of names, values and series.
//!
//! A read takes its sources at one moment: the head's matching samples, the frozen head and the list of parts. What is
//! published or merged meanwhile changes nothing for it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use model::{Labels, Matcher};
use query::{QueryError, Samples, Series, SeriesSelect, SeriesSet};
use roaring::RoaringBitmap;

use super::columns::Columns;
use super::head::TenantHead;
use super::part::Cursor;
use super::postings::Postings;
use super::{Frozen, LivePart, Store, StoreError, View};

/// One listing's request.
pub struct Listing<'a> {
    pub tenant: &'a str,
    /// Alternatives, each a selector. For names and values none means all series.
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
    fn select<'s>(&'s self, request: &SeriesSelect<'_>) -> Result<Box<dyn SeriesSet + 's>, QueryError> {
        let SeriesSelect { tenant, matchers, start_ms, end_ms, deadline, .. } = *request;
        let mut rows: Vec<(Labels, Samples)> = Vec::new();
        if start_ms > end_ms {
            return Ok(Box::new(rows));
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
            for id in &live.part.postings().select(matchers) {
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
            if !values.is_empty() {
                rows.push((labels, Samples { timestamps_ms, values, ..Samples::default() }));
            }
        }
        Ok(Box::new(rows))
    }
}

fn check_deadline(deadline: Option<Instant>) -> Result<(), QueryError> {
    let is_late = deadline.is_some_and(|deadline| Instant::now() > deadline);
    if is_late { Err(QueryError::Timeout("query execution")) } else { Ok(()) }
}

impl Store {
    /// Label sets of the series that a listing asks for, sorted. Parts answer by their blocks, so that a series may be
    /// listed that has samples only close to the range.
    pub fn series(&self, listing: &Listing<'_>) -> Result<BTreeSet<Labels>, QueryError> {
        let Listing { tenant, selectors, start_ms, end_ms, deadline } = *listing;
        let mut found = BTreeSet::new();
        let mut add_head = |head: &TenantHead| {
            for id in selectors.iter().flat_map(|matchers| head.postings().select(matchers)) {
                if head.has_sample(id, start_ms, end_ms) {
                    found.insert(head.labels(id).clone());
                }
            }
        };
        let (parts, frozen) = {
            let view = self.view.read();
            view.head.tenant(tenant).into_iter().for_each(&mut add_head);
            (view.parts(tenant, start_ms, end_ms), view.frozen.clone())
        };
        frozen_head(&frozen, tenant).into_iter().for_each(add_head);
        for live in parts {
            check_deadline(deadline)?;
            for id in selectors.iter().flat_map(|matchers| live.part.postings().select(matchers)) {
                if live.part.reaches(id, start_ms, end_ms) {
                    found.insert(live.part.labels(id));
                }
            }
        }
        Ok(found)
    }

    /// Names of the labels of series that a listing asks for. As for values, a head or a part that reaches into the range
    /// counts as a whole.
    pub fn label_names(&self, listing: &Listing<'_>) -> Result<BTreeSet<Arc<str>>, QueryError> {
        let mut found = BTreeSet::new();
        self.visit_postings(listing, &mut |postings, selected| {
            for (name, values) in postings.names() {
                if !found.contains(name) && values.values().any(|ids| selected.overlaps(ids)) {
                    found.insert(name.clone());
                }
            }
        })?;
        Ok(found)
    }

    pub fn label_values(&self, listing: &Listing<'_>, name: &str) -> Result<BTreeSet<Arc<str>>, QueryError> {
        let mut found = BTreeSet::new();
        self.visit_postings(listing, &mut |postings, selected| {
            for (value, ids) in postings.values_of(name) {
                if !found.contains(value) && selected.overlaps(ids) {
                    found.insert(value.clone());
                }
            }
        })?;
        Ok(found)
    }

    fn visit_postings(
        &self,
        listing: &Listing<'_>,
        visit: &mut dyn FnMut(&Postings, &Selected),
    ) -> Result<(), QueryError> {
        let Listing { tenant, selectors, start_ms, end_ms, deadline } = *listing;
        let mut visit = |postings: &Postings| visit(postings, &Selected::of(postings, selectors));
        let reaches = |head: &&TenantHead| {
            let (min_ms, max_ms) = head.time_range();
            min_ms <= end_ms && max_ms >= start_ms
        };
        let (parts, frozen) = {
            let view = self.view.read();
            view.head.tenant(tenant).filter(reaches).map(TenantHead::postings).into_iter().for_each(&mut visit);
            (view.parts(tenant, start_ms, end_ms), view.frozen.clone())
        };
        frozen_head(&frozen, tenant).filter(reaches).map(TenantHead::postings).into_iter().for_each(&mut visit);
        for live in parts {
            check_deadline(deadline)?;
            visit(live.part.postings());
        }
        Ok(())
    }
}

/// The series of one index that a listing asks for.
enum Selected {
    All,
    Some(RoaringBitmap),
}

impl Selected {
    fn of(postings: &Postings, selectors: &[Vec<Matcher>]) -> Selected {
        let some = || selectors.iter().map(|matchers| postings.select(matchers)).reduce(|all, one| all | one);
        some().map_or(Selected::All, Selected::Some)
    }

    fn overlaps(&self, ids: &RoaringBitmap) -> bool {
        match self {
            Selected::All => true,
            Selected::Some(selected) => !selected.is_disjoint(ids),
        }
    }
}
