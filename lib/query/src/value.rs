//! What a query results in.

use std::sync::Arc;

use model::{Histogram, Labels, Sample};

/// The value of a sample.
#[derive(Debug, Clone, PartialEq)]
pub enum Point {
    Float(f64),
    Histogram(Arc<Histogram>),
}

impl From<f64> for Point {
    fn from(value: f64) -> Point {
        Point::Float(value)
    }
}

impl From<Histogram> for Point {
    fn from(histogram: Histogram) -> Point {
        Point::Histogram(Arc::new(histogram))
    }
}

impl Point {
    pub fn float(&self) -> Option<f64> {
        match self {
            Point::Float(value) => Some(*value),
            Point::Histogram(_) => None,
        }
    }
}

/// One series of an instant vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Element {
    pub labels: Labels,
    pub t_ms: i64,
    pub point: Point,
}

impl Element {
    /// A scalar as an element without labels.
    pub fn of_scalar(sample: Sample) -> Element {
        Element { labels: Labels::default(), t_ms: sample.t_ms, point: Point::Float(sample.value) }
    }
}

/// One series of a matrix: its floats and its histograms, each in rising time. No instant is in both.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Row {
    pub labels: Labels,
    pub values: Vec<Sample>,
    pub histograms: Vec<(i64, Arc<Histogram>)>,
}

impl Row {
    pub fn is_empty(&self) -> bool {
        self.values.is_empty() && self.histograms.is_empty()
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Scalar(Sample),
    Text(i64, String),
    /// In the order that `sort` and `topk` gave, otherwise by labels.
    Vector(Vec<Element>),
    /// By labels.
    Matrix(Vec<Row>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub value: Value,
    /// What makes the result doubtful.
    pub warnings: Vec<String>,
    /// What makes the query doubtful.
    pub infos: Vec<String>,
    pub work: Work,
}

/// What an answer took.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Work {
    /// Samples that all steps looked at, where that was to be counted.
    pub samples: u64,
    /// The same by step, where that was to be counted.
    pub per_step: Vec<(i64, u64)>,
    /// Of these, the samples that the step before had not seen.
    pub read: u64,
    pub read_per_step: Vec<(i64, u64)>,
    /// Samples held at once.
    pub peak_samples: usize,
}

/// The elements that are floats.
pub fn float_samples(vector: Vec<Element>) -> Vec<(Labels, Sample)> {
    let sample = |Element { labels, t_ms, point }| Some((labels, Sample { t_ms, value: Point::float(&point)? }));
    vector.into_iter().filter_map(sample).collect()
}
