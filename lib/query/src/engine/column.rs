//! Results in the making: one column of values per series over the steps of a query.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use model::{Labels, is_stale, stale_marker};

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

/// One series' value at every step. Where it has none stands the staleness marker, which no operation results in.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub labels: Labels,
    pub values: Vec<f64>,
}

pub(super) fn absent() -> f64 {
    stale_marker()
}

pub(super) fn is_present(value: f64) -> bool {
    !is_stale(value)
}

pub(super) fn or_absent(value: Option<f64>) -> f64 {
    value.unwrap_or_else(absent)
}

impl Column {
    pub fn empty(labels: Labels, steps: usize) -> Column {
        Column { labels, values: vec![absent(); steps] }
    }

    pub fn is_empty(&self) -> bool {
        self.values.iter().all(|value| is_stale(*value))
    }

    /// Replaces every value that is there.
    pub fn map(&mut self, mut change: impl FnMut(usize, f64) -> f64) {
        for (step, value) in self.values.iter_mut().enumerate() {
            if is_present(*value) {
                *value = change(step, *value);
            }
        }
    }
}

/// Joins columns of the same labels; two values at one step are an error.
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
                let into = &mut kept[*place.get()].values;
                for (old, new) in into.iter_mut().zip(column.values) {
                    if is_present(*old) && is_present(new) {
                        let message = "vector cannot contain metrics with the same labelset";
                        return Err(QueryError::Execution(message.to_owned()));
                    }
                    if is_present(new) {
                        *old = new;
                    }
                }
            }
        }
    }
    Ok(kept)
}
