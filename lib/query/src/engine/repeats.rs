//! Parts that stand in a query more than once are evaluated once.
//!
//! Annotations keep the place that they would have without: of equal parts the last one is evaluated.

use std::collections::HashMap;

use super::column::{Column, Grid};
use super::select::Depth;
use crate::promql::{Expr, ExprKind};

#[derive(Default)]
pub(super) struct Repeats<'a> {
    /// By the address of a node: its class of equal ones.
    classes: HashMap<usize, usize>,
    /// Of each class the node that stands last.
    last: Vec<&'a Expr>,
    kept: Vec<(usize, Grid, Depth, Vec<Column>)>,
}

/// Tells nodes of one tree apart, for as long as the tree stands where it is.
fn address(expr: &Expr) -> usize {
    std::ptr::from_ref(expr).addr()
}

impl<'a> Repeats<'a> {
    pub fn of(expr: &'a Expr) -> Repeats<'a> {
        let mut nodes: Vec<&'a Expr> = Vec::new();
        expr.walk(&mut |node| {
            if matches!(node.kind, ExprKind::Aggregate(_) | ExprKind::Call(_) | ExprKind::Selector(_)) {
                nodes.push(node);
            }
        });
        let mut repeats = Repeats::default();
        for (i, node) in nodes.iter().enumerate() {
            if repeats.classes.contains_key(&address(node)) {
                continue;
            }
            let mut equals = nodes[i + 1..].iter().filter(|other| *other == node).peekable();
            if equals.peek().is_none() {
                continue;
            }
            let class = repeats.last.len();
            repeats.last.push(node);
            repeats.classes.insert(address(node), class);
            for other in equals {
                repeats.classes.insert(address(other), class);
                repeats.last[class] = other;
            }
        }
        repeats
    }

    /// The class of a node that has equals, and the node to be evaluated in place of all.
    pub fn class(&self, expr: &Expr) -> Option<(usize, &'a Expr)> {
        let class = *self.classes.get(&address(expr))?;
        Some((class, self.last[class]))
    }

    pub fn find(&self, class: usize, grid: Grid, depth: Depth) -> Option<&[Column]> {
        let is_it = |kept: &&(usize, Grid, Depth, Vec<Column>)| (kept.0, kept.1, kept.2) == (class, grid, depth);
        self.kept.iter().find(is_it).map(|(.., columns)| columns.as_slice())
    }

    pub fn keep(&mut self, class: usize, grid: Grid, depth: Depth, columns: Vec<Column>) {
        self.kept.push((class, grid, depth, columns));
    }
}
