//! `info(v, {selector})`: adds labels of info metrics that have the same `instance` and `job` (Prometheus `promql/info.go`).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use model::{Labels, LabelsBuilder, METRIC_NAME, MatchOp, Matcher};

use super::column::{Column, Grid, Item, is_present, unique};
use super::eval::Eval;
use super::select::{Fate, Look};
use crate::QueryError;
use crate::promql::{Call, Expr, ExprKind, Shift, VectorSelector};

/// What tells whose information a series holds.
const IDENTITY: [&str; 2] = ["instance", "job"];
const DEFAULT_INFO: &str = "target_info";

/// What the second argument asks for.
struct Wanted {
    names: Vec<Matcher>,
    data: Vec<Matcher>,
}

impl Wanted {
    fn of(selector: Option<&Expr>) -> Wanted {
        let matchers = match selector.map(|selector| &selector.unwrapped().kind) {
            Some(ExprKind::Selector(selector)) => selector.matchers.clone(),
            _ => Vec::new(),
        };
        let (mut names, data): (Vec<Matcher>, Vec<Matcher>) =
            matchers.into_iter().partition(|matcher| matcher.name == METRIC_NAME);
        let is_positive = |matcher: &Matcher| matches!(matcher.op, MatchOp::Equal | MatchOp::Regex);
        if names.is_empty() {
            names.push(Matcher::equal(METRIC_NAME, DEFAULT_INFO));
        } else if !names.iter().any(is_positive) {
            let any = Matcher::new(METRIC_NAME.to_owned(), MatchOp::Regex, ".+_info".to_owned());
            names.extend(any.ok());
        }
        Wanted { names, data }
    }

    /// Whether a series is itself one of the info metrics.
    fn is_info(&self, labels: &Labels) -> bool {
        let name = labels.metric_name().unwrap_or("");
        self.names.iter().all(|matcher| matcher.matches(name))
    }

    fn takes(&self, name: &str) -> bool {
        name != METRIC_NAME && (self.data.is_empty() || self.data.iter().any(|matcher| matcher.name == name))
    }

    /// Whether a series about which there is no information is kept.
    fn may_be_missing(&self) -> bool {
        self.data.iter().all(Matcher::matches_empty)
    }
}

fn identity(labels: &Labels) -> Labels {
    labels.only(&IDENTITY)
}

impl Eval<'_> {
    pub fn info(&mut self, call: &Call, grid: Grid) -> Result<Vec<Column>, QueryError> {
        let base = self.vector(&call.args[0], grid)?;
        let wanted = Wanted::of(call.args.get(1));
        let enriched: Vec<&Labels> =
            base.iter().map(|column| &column.labels).filter(|labels| !wanted.is_info(labels)).collect();
        let infos = self.info_series(&call.args[0], &wanted, &enriched, grid)?;
        let sources = newest(&infos, grid)?;
        let mut result = Vec::new();
        for column in base {
            self.check_room(result.len() * grid.steps)?;
            if wanted.is_info(&column.labels) {
                result.push(column);
            } else {
                enrich(&column, &infos, &sources, &wanted, grid, &mut result)?;
            }
        }
        result.retain(|column| !column.is_empty());
        unique(result)
    }

    /// The info series of all that is to be enriched; their values are the times of their samples, in seconds.
    fn info_series(
        &mut self,
        base: &Expr,
        wanted: &Wanted,
        enriched: &[&Labels],
        grid: Grid,
    ) -> Result<Vec<Column>, QueryError> {
        let mut matchers: Vec<Matcher> = Vec::new();
        for name in IDENTITY {
            let values: BTreeSet<&str> = enriched.iter().filter_map(|labels| labels.get(name)).collect();
            if !values.is_empty() {
                let any: Vec<String> = values.into_iter().map(regex::escape).collect();
                let matcher = Matcher::new(name.to_owned(), MatchOp::Regex, any.join("|"));
                matchers.push(matcher.map_err(|error| QueryError::Execution(error.to_string()))?);
            }
        }
        if matchers.is_empty() {
            return Ok(Vec::new());
        }
        matchers.extend(wanted.data.iter().chain(&wanted.names).cloned());
        let shift = first_shift(base);
        let selector = VectorSelector { name: None, matchers, shift, extended: None, span: base.span };
        let mut infos = Vec::new();
        self.stream_latest(&selector, grid, Look::InfoTime, Fate::Kept, &mut |column| {
            infos.push(column);
            Ok(())
        })?;
        Ok(infos)
    }
}

/// Information is looked up where the first selector of the expression looks: its `@` and `offset` hold for both.
fn first_shift(base: &Expr) -> Shift {
    let mut shift = None;
    base.walk(&mut |node| {
        if let ExprKind::Selector(selector) | ExprKind::Range { selector, .. } = &node.kind {
            shift.get_or_insert_with(|| selector.shift.clone());
        }
    });
    shift.unwrap_or_default()
}

/// Per info metric, identity and step: the series with the newest sample.
type Sources = HashMap<(String, Labels), Vec<Option<usize>>>;

fn newest(infos: &[Column], grid: Grid) -> Result<Sources, QueryError> {
    let mut sources: Sources = HashMap::new();
    for (i, info) in infos.iter().enumerate() {
        let name = info.labels.metric_name().unwrap_or("").to_owned();
        let places = sources.entry((name, identity(&info.labels))).or_insert_with(|| vec![None; grid.steps]);
        for (step, place) in places.iter_mut().enumerate() {
            let taken_s = info.values[step];
            if !is_present(taken_s) {
                continue;
            }
            let before = place.map(|before| (before, infos[before].values[step]));
            match before {
                Some((before, before_s)) if before_s == taken_s => {
                    let taken_ms = (taken_s * 1000.0) as i64;
                    return Err(QueryError::Execution(format!(
                        "found duplicate series for info metric: existing {} @ {taken_ms}, new {} @ {taken_ms}",
                        infos[before].labels, info.labels
                    )));
                }
                Some((_, before_s)) if before_s > taken_s => {}
                _ => *place = Some(i),
            }
        }
    }
    Ok(sources)
}

/// Splits a column by the labels that its steps are given.
fn enrich(
    column: &Column,
    infos: &[Column],
    sources: &Sources,
    wanted: &Wanted,
    grid: Grid,
    into: &mut Vec<Column>,
) -> Result<(), QueryError> {
    let identity = identity(&column.labels);
    let mut own: Vec<(&str, &Vec<Option<usize>>)> = Vec::new();
    for ((name, of), places) in sources {
        if *of == identity {
            own.push((name, places));
        }
    }
    own.sort_by_key(|(name, _)| *name);
    let mut results: BTreeMap<Vec<usize>, Option<Column>> = BTreeMap::new();
    for step in (0..grid.steps).filter(|step| column.has(*step)) {
        let found: Vec<usize> = own.iter().filter_map(|(_, places)| places[step]).collect();
        let result = match results.get_mut(&found) {
            Some(result) => result,
            None => {
                let labels = enriched(&column.labels, &found, infos, wanted)?;
                let empty =
                    labels.map(|labels| Column { drop_name: column.drop_name, ..Column::empty(labels, grid.steps) });
                results.entry(found).or_insert(empty)
            }
        };
        if let Some(result) = result {
            let item: Item = column.item(step);
            result.set(step, item);
        }
    }
    into.extend(results.into_values().flatten());
    Ok(())
}

/// `None` for a series that is to be left out.
fn enriched(base: &Labels, found: &[usize], infos: &[Column], wanted: &Wanted) -> Result<Option<Labels>, QueryError> {
    let mut added = LabelsBuilder::default();
    for info in found {
        for label in infos[*info].labels.iter().filter(|label| wanted.takes(&label.name)) {
            if added.get(&label.name).is_some_and(|before| before != &*label.value) {
                return Err(QueryError::Execution(format!("conflicting label: {}", label.name)));
            }
            if base.get(&label.name).is_none() {
                added.set(label.name.clone(), label.value.clone());
            }
        }
    }
    if found.is_empty() && !wanted.may_be_missing() {
        return Ok(None);
    }
    let mut labels = base.to_builder();
    for label in &added.build() {
        labels.set(label.name.clone(), label.value.clone());
    }
    Ok(Some(labels.build()))
}
