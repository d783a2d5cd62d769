//! How many bytes streams or labels have, at all and over time. Texts are not read for it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use ::query::{Lines, QueryError};
use ::service::http::{Params, StrongRead, Tenant};
use axum::Json;
use axum::extract::State;
use model::{Label, Labels, Matcher};
use serde_json::{Value as Json_, json};

use super::params::{HOUR_NS, VOLUME_SERIES, required, step_ms, stream_matchers, time_range};
use super::query::{Answer, Reading};
use super::streams::select;
use super::{Api, LokiError, answer::success};

const MAX_LIMIT: usize = 1000;
const MAX_STEPS: i64 = 11_000;

/// What is counted together.
struct Aggregation {
    targets: Vec<String>,
    by_label: bool,
}

impl Aggregation {
    fn of(params: &Params, matchers: &[Matcher]) -> Result<Aggregation, LokiError> {
        let given = params.get("targetLabels").unwrap_or("");
        let targets: Vec<String> = given.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        let by_label = match params.get("aggregateBy") {
            None | Some("series") => false,
            Some("labels") => true,
            Some(other) => {
                return Err(LokiError::bad(format!("invalid aggregateBy {other:?}: must be one of series or labels")));
            }
        };
        let targets = match targets.is_empty() && !by_label {
            true => matchers.iter().map(|matcher| matcher.name.clone()).collect(),
            false => targets,
        };
        Ok(Aggregation { targets, by_label })
    }

    /// What a stream's lines count for.
    fn groups(&self, labels: &Labels) -> Vec<Labels> {
        let names: Vec<&str> = self.targets.iter().map(String::as_str).collect();
        if self.by_label {
            let is_target = |label: &&Label| names.is_empty() || names.contains(&&*label.name);
            let named = |label: &Label| Label { name: label.name.clone(), value: "".into() };
            return labels.iter().filter(is_target).map(|label| Labels::with_empty_values([named(label)])).collect();
        }
        match names.is_empty() {
            true => vec![labels.clone()],
            false => vec![labels.only(&names)],
        }
    }
}

/// Bytes by the last instant of a step.
type Steps = BTreeMap<i64, u64>;
type Group = (Labels, Steps);
type Counts = BTreeMap<Labels, Steps>;

async fn counts(
    api: Api,
    tenant: String,
    params: &Params,
    matchers: Vec<Matcher>,
    edges: Vec<i64>,
) -> Result<Counts, LokiError> {
    let (start_ns, end_ns) = time_range(params, HOUR_NS)?;
    let aggregation = Aggregation::of(params, &matchers)?;
    let of_tenant = tenant.clone();
    let count = move |reading: &Reading| -> Result<Counts, QueryError> {
        let mut counts = Counts::new();
        let mut known: Option<(Labels, Vec<Labels>)> = None;
        let request = select(&of_tenant, &matchers, start_ns, end_ns, reading.deadline);
        reading.source.tally(&request, &edges, true, &mut |tally| {
            if known.as_ref().is_none_or(|(labels, _)| labels != tally.labels) {
                known = Some((tally.labels.clone(), aggregation.groups(tally.labels)));
            }
            let metadata: usize = tally.metadata.iter().map(|label| label.name.len() + label.value.len()).sum();
            for group in known.iter().flat_map(|(_, groups)| groups) {
                if !counts.contains_key(group) {
                    counts.insert(group.clone(), BTreeMap::new());
                }
                if let Some(steps) = counts.get_mut(group) {
                    *steps.entry(edges[tally.edge]).or_default() += tally.bytes + tally.lines * metadata as u64;
                }
            }
            ControlFlow::Continue(())
        })?;
        Ok(counts)
    };
    api.evaluate(&tenant, count).await
}

/// The largest groups first.
fn largest(counts: Counts, params: &Params) -> Result<Vec<Group>, LokiError> {
    let limit = match params.get("limit") {
        None => VOLUME_SERIES,
        Some(text) => text.parse().map_err(|_| LokiError::bad(format!("invalid limit {text:?}")))?,
    };
    let mut groups: Vec<_> = counts.into_iter().collect();
    groups.sort_by_key(|(_, steps)| std::cmp::Reverse(steps.values().sum::<u64>()));
    groups.truncate(limit.min(MAX_LIMIT));
    Ok(groups)
}

fn answer(kind: &str, result: Vec<Json_>) -> Json<Json_> {
    Json(success(json!({"resultType": kind, "result": result, "stats": {}})))
}

pub async fn volume(State(api): State<Api>, Tenant(tenant): Tenant, strong: StrongRead, params: Params) -> Answer {
    let matchers = stream_matchers(required(&params, "query")?)?;
    let (_, end_ns) = time_range(&params, HOUR_NS)?;
    api.strong(strong).await?;
    let counts = counts(api, tenant, &params, matchers, vec![end_ns]).await?;
    let at = end_ns as f64 / 1e9;
    let row = |(labels, steps): Group| {
        let bytes: u64 = steps.values().sum();
        json!({"metric": labels, "value": [at, bytes.to_string()]})
    };
    Ok(answer("vector", largest(counts, &params)?.into_iter().map(row).collect()))
}

/// A point at the beginning of each step that has lines.
pub async fn volume_range(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    strong: StrongRead,
    params: Params,
) -> Answer {
    let matchers = stream_matchers(required(&params, "query")?)?;
    let (start_ns, end_ns) = time_range(&params, HOUR_NS)?;
    let step_ns = step_ms(&params, start_ns, end_ns)? * model::NS_PER_MS;
    if end_ns.saturating_sub(start_ns) / step_ns > MAX_STEPS {
        return Err(LokiError::bad(format!("exceeded maximum resolution of {MAX_STEPS} points per timeseries")));
    }
    api.strong(strong).await?;
    let (first, last) = (start_ns.div_euclid(step_ns), end_ns.div_euclid(step_ns));
    let edges = (first..=last).map(|step| (step + 1).saturating_mul(step_ns) - 1).collect();
    let counts = counts(api, tenant, &params, matchers, edges).await?;
    let row = |(labels, steps): Group| {
        let point = |(last_ns, bytes): (i64, u64)| json!([(last_ns + 1 - step_ns) as f64 / 1e9, bytes.to_string()]);
        json!({"metric": labels, "values": steps.into_iter().map(point).collect::<Vec<_>>()})
    };
    Ok(answer("matrix", largest(counts, &params)?.into_iter().map(row).collect()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn groups() {
        let labels = Labels::from_pairs([("app", "a"), ("env", "p"), ("pod", "1")]);
        let check = |query: &str, params: &str, expected: &[&str]| {
            let matchers = stream_matchers(query).expect("a selector");
            let aggregation = Aggregation::of(&Params::parse(params), &matchers).expect("parameters");
            let expected: BTreeSet<String> = expected.iter().map(|text| (*text).to_owned()).collect();
            let groups = aggregation.groups(&labels);
            assert_eq!(groups.iter().map(Labels::to_string).collect::<BTreeSet<_>>(), expected, "{query} {params}");
        };
        check(r#"{app=~".+"}"#, "", &[r#"{app="a"}"#]);
        check("{}", "", &[r#"{app="a", env="p", pod="1"}"#]);
        check(r#"{app="a"}"#, "targetLabels=env,none", &[r#"{env="p"}"#]);
        check(r#"{app="a"}"#, "aggregateBy=labels", &[r#"{app=""}"#, r#"{env=""}"#, r#"{pod=""}"#]);
        check(r#"{app="a"}"#, "aggregateBy=labels&targetLabels=pod", &[r#"{pod=""}"#]);
        assert!(Aggregation::of(&Params::parse("aggregateBy=x"), &[]).is_err());
    }
}
