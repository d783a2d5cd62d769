//! A store of series in memory: for tests, for scripts, and for whoever has samples at hand.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use model::{Labels, Sample, matches_all};

use crate::{QueryError, SelectedSeries, Series, SeriesSelect, Visit};

/// Series of one tenant; requests of any tenant see them.
#[derive(Debug, Clone, Default)]
pub struct MemorySeries {
    series: BTreeMap<Labels, BTreeMap<i64, f64>>,
}

impl MemorySeries {
    /// Adds a sample; a later one of the same instant wins.
    pub fn push(&mut self, labels: &Labels, sample: Sample) {
        match self.series.get_mut(labels) {
            Some(samples) => samples.insert(sample.t_ms, sample.value),
            None => self.series.entry(labels.clone()).or_default().insert(sample.t_ms, sample.value),
        };
    }

    pub fn len(&self) -> usize {
        self.series.len()
    }

    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }
}

impl Series for MemorySeries {
    fn select(
        &self,
        request: &SeriesSelect<'_>,
        visit: &mut dyn FnMut(SelectedSeries) -> Visit,
    ) -> Result<(), QueryError> {
        if request.start_ms > request.end_ms {
            return Ok(());
        }
        for (labels, samples) in self.series.iter().filter(|(labels, _)| matches_all(request.matchers, labels)) {
            let (timestamps_ms, values): (Vec<_>, Vec<_>) = samples.range(request.start_ms..=request.end_ms).unzip();
            if values.is_empty() {
                continue;
            }
            if let ControlFlow::Break(()) = visit(SelectedSeries { labels: labels.clone(), timestamps_ms, values }) {
                break;
            }
        }
        Ok(())
    }
}
