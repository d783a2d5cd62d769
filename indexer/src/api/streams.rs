//! What streams there are: their labels, values and sizes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use ::query::LineSelect;
use ::service::http::{Params, StrongRead, Tenant};
use axum::Json;
use axum::extract::{Path, State};
use model::{Labels, Matcher};
use serde_json::json;

use super::params::{HOUR_NS, optional_matchers, stream_matchers, time_range};
use super::query::{Answer, Reading};
use super::{Api, LokiError, answer};

/// Selectors of one request for series.
const MAX_SELECTORS: usize = 100;

/// The label sets of streams with lines in the request's time that any of the selectors takes.
async fn streams_of(
    api: &Api,
    tenant: String,
    params: &Params,
    selectors: Vec<Vec<Matcher>>,
) -> Result<BTreeSet<Labels>, LokiError> {
    let (start_ns, end_ns) = time_range(params, 6 * HOUR_NS)?;
    let of_tenant = tenant.clone();
    let find = move |reading: &Reading| {
        let mut found = BTreeSet::new();
        for matchers in selectors {
            found.append(&mut reading.source.streams(&select(
                &of_tenant,
                &matchers,
                start_ns,
                end_ns,
                reading.deadline,
            ))?);
        }
        Ok(found)
    };
    api.evaluate(&tenant, find).await
}

pub fn select<'a>(
    tenant: &'a str,
    matchers: &'a [Matcher],
    start_ns: i64,
    end_ns: i64,
    deadline: Instant,
) -> LineSelect<'a> {
    LineSelect {
        tenant,
        matchers,
        start_ns,
        end_ns: end_ns.saturating_add(1),
        backward: false,
        contains: &[],
        words: &[],
        told_by: None,
        deadline: Some(deadline),
    }
}

pub async fn labels(State(api): State<Api>, Tenant(tenant): Tenant, strong: StrongRead, params: Params) -> Answer {
    let selector = optional_matchers(&params)?;
    api.strong(strong).await?;
    let streams = streams_of(&api, tenant, &params, vec![selector]).await?;
    let names: BTreeSet<&str> = streams.iter().flatten().map(|label| label.name.as_ref()).collect();
    Ok(Json(answer::success(json!(names))))
}

pub async fn label_values(
    State(api): State<Api>,
    Path(name): Path<String>,
    Tenant(tenant): Tenant,
    strong: StrongRead,
    params: Params,
) -> Answer {
    let selector = optional_matchers(&params)?;
    api.strong(strong).await?;
    let streams = streams_of(&api, tenant, &params, vec![selector]).await?;
    let values: BTreeSet<&str> = streams.iter().filter_map(|labels| labels.get(&name)).collect();
    Ok(Json(answer::success(json!(values))))
}

pub async fn series(State(api): State<Api>, Tenant(tenant): Tenant, strong: StrongRead, params: Params) -> Answer {
    let given: Vec<&str> = params.get_all("match[]").chain(params.get_all("match")).collect();
    if given.len() > MAX_SELECTORS {
        return Err(LokiError::bad(format!("more than {MAX_SELECTORS} selectors")));
    }
    let mut selectors = given.into_iter().map(stream_matchers).collect::<Result<Vec<_>, LokiError>>()?;
    if selectors.is_empty() {
        selectors.push(Vec::new());
    }
    api.strong(strong).await?;
    Ok(Json(answer::success(json!(streams_of(&api, tenant, &params, selectors).await?))))
}

/// Labels worth choosing by, with the number of their values.
pub async fn detected_labels(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    strong: StrongRead,
    params: Params,
) -> Answer {
    let selector = optional_matchers(&params)?;
    api.strong(strong).await?;
    let streams = streams_of(&api, tenant, &params, vec![selector]).await?;
    let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for label in streams.iter().flatten() {
        values.entry(&label.name).or_default().insert(&label.value);
    }
    let worthwhile = values.into_iter().filter(|(_, values)| !values.iter().all(|value| is_opaque(value)));
    let labels: Vec<_> = worthwhile.map(|(name, values)| json!({"label": name, "cardinality": values.len()})).collect();
    Ok(Json(json!({"detectedLabels": labels})))
}

/// Numbers and UUIDs say nothing to people.
fn is_opaque(value: &str) -> bool {
    let is_uuid = value.len() == 36 && value.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    is_uuid || value.parse::<f64>().is_ok()
}

pub async fn index_stats(State(api): State<Api>, Tenant(tenant): Tenant, strong: StrongRead, params: Params) -> Answer {
    let (start_ns, end_ns) = time_range(&params, HOUR_NS)?;
    let matchers = optional_matchers(&params)?;
    api.strong(strong).await?;
    let of_tenant = tenant.clone();
    let volume = move |reading: &Reading| {
        reading.source.volume(&select(&of_tenant, &matchers, start_ns, end_ns, reading.deadline))
    };
    let volume = api.evaluate(&tenant, volume).await?;
    let (streams, chunks, entries, bytes) = (volume.streams, volume.chunks, volume.entries, volume.bytes);
    Ok(Json(json!({"streams": streams, "chunks": chunks, "entries": entries, "bytes": bytes})))
}
