//! What a query reads: streams by their labels, lines through a pipeline.

use model::Matcher;

use super::pipeline::Pipeline;
use crate::Span;

#[derive(Debug, Clone)]
pub struct LogSelector {
    pub matchers: Vec<Matcher>,
    pub pipeline: Pipeline,
    pub span: Span,
}
