//! Results in the making: one column of values per series over the steps of a query.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use model::{Histogram, Labels, is_stale, stale_marker};

use crate::QueryError;

/// The instants of an evaluation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Grid {
    pub start_ms: i64,
    pub step_ms: i64,
    pub steps: usize,
}

impl Grid {
    pub fn instant(t_ms: i64) -> Grid {
        Grid { start_ms: t_ms, step_ms: 1, steps: 1 }
    }

    pub fn time(&self, step: usize) -> i64 {
        self.start_ms + step as i64 * self.step_ms
    }

    pub fn end_ms(&self) -> i64 {
        self.time(self.steps.saturating_sub(1))
    }

    pub fn times(self) -> impl Iterator<Item = i64> {
        (0..self.steps).map(move |step| self.time(step))
    }
}

/// What a series has at one step.
#[derive(Debug, Clone)]
pub(super) enum Item {
    Absent,
    Float(f64),
    Histogram(Arc<Histogram>),
}

impl From<Histogram> for Item {
    fn from(histogram: Histogram) -> Item {
        Item::Histogram(Arc::new(histogram))
    }
}

/// One series' floats and histograms at every step.
#[derive(Debug, Clone)]
pub(super) struct Column {
    /// With the metric's name even where the result has none: what is computed from it may still ask for the name.
    pub labels: Labels,
    /// Whether the result has no metric name: it goes in the end.
    pub drop_name: bool,
    /// Where there is no float stands the staleness marker, which no operation results in.
    pub values: Vec<f64>,
    /// One place per step; `None` for the many columns that are all floats.
    pub histograms: Option<Vec<Option<Arc<Histogram>>>>,
}

pub(super) fn absent() -> f64 {
    stale_marker()
}

pub(super) fn is_present(value: f64) -> bool {
    !is_stale(value)
}

impl Column {
    pub fn empty(labels: Labels, steps: usize) -> Column {
        Column::of_floats(labels, vec![absent(); steps])
    }

    pub fn of_floats(labels: Labels, values: Vec<f64>) -> Column {
        Column { labels, drop_name: false, values, histograms: None }
    }

    pub fn without_name(self) -> Column {
        Column { drop_name: true, ..self }
    }

    pub fn is_empty(&self) -> bool {
        self.values.iter().all(|value| is_stale(*value))
            && self.histograms.iter().flatten().all(|histogram| histogram.is_none())
    }

    pub fn histogram(&self, step: usize) -> Option<&Arc<Histogram>> {
        self.histograms.as_ref()?[step].as_ref()
    }

    pub fn has(&self, step: usize) -> bool {
        is_present(self.values[step]) || self.histogram(step).is_some()
    }

    pub fn item(&self, step: usize) -> Item {
        match (self.values[step], self.histogram(step)) {
            (value, _) if is_present(value) => Item::Float(value),
            (_, Some(histogram)) => Item::Histogram(histogram.clone()),
            _ => Item::Absent,
        }
    }

    pub fn set(&mut self, step: usize, item: Item) {
        let (value, histogram) = match item {
            Item::Absent => (absent(), None),
            Item::Float(value) => (value, None),
            Item::Histogram(histogram) => (absent(), Some(histogram)),
        };
        self.values[step] = value;
        if histogram.is_some() || self.histograms.is_some() {
            let steps = self.values.len();
            self.histograms.get_or_insert_with(|| vec![None; steps])[step] = histogram;
        }
    }

    /// Replaces every float; histograms vanish.
    pub fn map_floats(&mut self, mut change: impl FnMut(usize, f64) -> f64) {
        self.histograms = None;
        for (step, value) in self.values.iter_mut().enumerate() {
            if is_present(*value) {
                *value = change(step, *value);
            }
        }
    }

    /// What it counts as among the samples that a query may hold.
    pub fn weight(&self) -> usize {
        let histograms = self.histograms.iter().flatten().flatten();
        self.values.len() + histograms.map(|histogram| histogram.size_bytes() / 16).sum::<usize>()
    }
}

/// Joins columns of the same labels; two values at one step are an error. What comes first in time says whether the name
/// stays.
pub(super) fn unique(columns: Vec<Column>) -> Result<Vec<Column>, QueryError> {
    let mut places: HashMap<Labels, usize> = HashMap::with_capacity(columns.len());
    let mut kept: Vec<Column> = Vec::with_capacity(columns.len());
    for column in columns {
        match places.entry(column.labels.clone()) {
            Entry::Vacant(place) => {
                place.insert(kept.len());
                kept.push(column);
            }
            Entry::Occupied(place) => {
                let into = &mut kept[*place.get()];
                let first_step = |column: &Column| (0..column.values.len()).find(|step| column.has(*step));
                if into.drop_name != column.drop_name && first_step(&column) < first_step(into) {
                    into.drop_name = column.drop_name;
                }
                for step in (0..column.values.len()).filter(|step| column.has(*step)) {
                    if into.has(step) {
                        let message = "vector cannot contain metrics with the same labelset";
                        return Err(QueryError::Execution(message.to_owned()));
                    }
                    into.set(step, column.item(step));
                }
            }
        }
    }
    Ok(kept)
}
