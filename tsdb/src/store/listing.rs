//! Listings of names, values and series, and exemplars.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use model::{Exemplar, Labels, MS_PER_DAY, Matcher};
use query::{QueryError, Wants};
use roaring::RoaringBitmap;

use super::deletions::{Deletion, ranges_of, remove_all};
use super::exemplars::thin;
use super::head::TenantHead;
use super::part::{Block, Cursor, Directory, Reading};
use super::postings::Postings;
use super::select::{check_deadline, frozen_head};
use super::{LivePart, Store};

/// One listing's request.
pub struct Listing<'a> {
    pub tenant: &'a str,
    /// Alternatives, each a selector. For names and values none means all series.
    pub selectors: &'a [Vec<Matcher>],
    pub start_ms: i64,
    pub end_ms: i64,
    pub deadline: Option<Instant>,
}

impl LivePart {
    /// Where the first block of a series begins that reaches into the inclusive range and is not deleted as a whole.
    fn first_ms(&self, directory: &Directory, id: u32, start_ms: i64, end_ms: i64) -> Option<i64> {
        let mut blocks = directory.blocks(id, start_ms, end_ms);
        if self.entry.deletions.is_empty() {
            return blocks.next().map(|block| block.min_ms);
        }
        let deleted = ranges_of(&self.entry.deletions, &self.entry.tenant, &directory.labels(id));
        let is_deleted =
            |block: &Block| deleted.iter().any(|(start, end)| *start <= block.min_ms && block.max_ms() <= *end);
        blocks.find(|block| !is_deleted(block)).map(|block| block.min_ms)
    }
}

impl Store {
    /// Label sets of the series that a listing asks for, sorted. Parts answer by their blocks, so that a series may be
    /// listed that has samples only close to the range.
    pub fn series(&self, listing: &Listing<'_>) -> Result<BTreeSet<Labels>, QueryError> {
        Ok(self.series_since(listing)?.into_keys().collect())
    }

    /// Like [`Store::series`], with the time of each one's first sample there.
    pub fn series_since(&self, listing: &Listing<'_>) -> Result<BTreeMap<Labels, i64>, QueryError> {
        let Listing { tenant, selectors, start_ms, end_ms, deadline } = *listing;
        let mut found: BTreeMap<Labels, i64> = BTreeMap::new();
        let mut add = |labels: Labels, first_ms: i64| {
            found.entry(labels).and_modify(|known| *known = first_ms.min(*known)).or_insert(first_ms);
        };
        let mut add_head = |head: &TenantHead, deletions: &[Arc<Deletion>]| {
            for id in selectors.iter().flat_map(|matchers| head.postings().select(matchers)) {
                let labels = head.labels(id);
                let mut first_ms = head.first_ms(id, start_ms, end_ms);
                if first_ms.is_some() && !deletions.is_empty() {
                    let mut columns = head.columns(id, start_ms, end_ms);
                    remove_all(&mut columns, &ranges_of(deletions, tenant, labels));
                    first_ms = columns.timestamps_ms.first().copied();
                }
                first_ms.into_iter().for_each(|first_ms| add(labels.clone(), first_ms));
            }
        };
        let (parts, frozen, deletions) = {
            let view = self.view.read();
            view.head.tenant(tenant).into_iter().for_each(|head| add_head(head, &[]));
            (view.parts(tenant, start_ms, end_ms), view.frozen.clone(), view.frozen_deletions(tenant))
        };
        frozen_head(&frozen, tenant).into_iter().for_each(|head| add_head(head, &deletions));
        let asking = self.directories.ask(&parts);
        for live in parts {
            check_deadline(deadline)?;
            let directory = asking.open(&live)?;
            for id in selectors.iter().flat_map(|matchers| directory.postings().select(matchers)) {
                let first_ms = live.first_ms(&directory, id, start_ms, end_ms);
                first_ms.into_iter().for_each(|first_ms| add(directory.labels(id), first_ms));
            }
        }
        Ok(found)
    }

    /// The exemplars of series that a selector accepts, within an inclusive range, by rising labels and in time.
    pub fn exemplars(
        &self,
        tenant: &str,
        selectors: &[Vec<Matcher>],
        start_ms: i64,
        end_ms: i64,
        deadline: Option<Instant>,
    ) -> Result<Vec<(Labels, Vec<Exemplar>)>, QueryError> {
        let mut found: BTreeMap<Labels, Vec<Exemplar>> = BTreeMap::new();
        let mut add = |labels: Labels, exemplars: Vec<Exemplar>, deletions: &[Arc<Deletion>]| {
            let deleted = ranges_of(deletions, tenant, &labels);
            let is_kept = |one: &Exemplar| !deleted.iter().any(|(start, end)| (*start..=*end).contains(&one.t_ms));
            let mut kept = exemplars.into_iter().filter(is_kept).peekable();
            if kept.peek().is_some() {
                found.entry(labels).or_default().extend(kept);
            }
        };
        let ids_in = |postings: &Postings| {
            selectors.iter().map(|matchers| postings.select(matchers)).fold(RoaringBitmap::new(), |all, one| all | one)
        };
        let (parts, frozen, deletions) = {
            let view = self.view.read();
            if let Some(head) = view.head.tenant(tenant) {
                let ids = ids_in(head.postings());
                ids.iter().for_each(|id| add(head.labels(id).clone(), head.exemplars(id, start_ms, end_ms), &[]));
            }
            let is_near = |live: &&LivePart| {
                let first_ms = live.entry.day.saturating_mul(MS_PER_DAY);
                live.entry.tenant == tenant && first_ms <= end_ms && first_ms.saturating_add(MS_PER_DAY) > start_ms
            };
            let parts: Vec<LivePart> = view.parts.iter().filter(is_near).cloned().collect();
            (parts, view.frozen.clone(), view.frozen_deletions(tenant))
        };
        if let Some(head) = frozen_head(&frozen, tenant) {
            let ids = ids_in(head.postings());
            ids.iter().for_each(|id| add(head.labels(id).clone(), head.exemplars(id, start_ms, end_ms), &deletions));
        }
        let reading = Reading { start_ms, end_ms, wants: Wants::Values };
        let asking = self.directories.ask(&parts);
        for live in &parts {
            check_deadline(deadline)?;
            let (directory, mut cursor) = (asking.open(live)?, Cursor::default());
            for id in &ids_in(directory.postings()) {
                if directory.has_exemplars(id) {
                    let exemplars = directory.exemplars(id, &reading, &mut cursor)?;
                    add(directory.labels(id), exemplars, &live.entry.deletions);
                }
            }
        }
        found.values_mut().for_each(thin);
        Ok(found.into_iter().collect())
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
        let asking = self.directories.ask(&parts);
        for live in &parts {
            check_deadline(deadline)?;
            visit(asking.open(live)?.postings());
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
