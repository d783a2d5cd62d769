//! `/api/v1/search/{metric_names,label_names,label_values}`: names and values by what a person typed, as NDJSON.
//!
//! A line with `results` per batch, at least one, then `{"status":"success","has_more":…}`.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use model::{METRIC_NAME, now_ms};
use serde_json::{Value, json};
use service::http::{ApiError, Params, StrongRead, Tenant};

use super::listing::selector;
use super::{App, query_error, time_or};
use crate::store::{Listing, Store};

const DEFAULT_LIMIT: usize = 100;
const DEFAULT_BATCH: usize = 100;
/// No answer is longer, whatever was asked.
const MAX_LIMIT: usize = 10_000;
const MAX_TERMS: usize = 32;
const HOUR_MS: i64 = 3_600_000;

/// What to look for, and how.
struct Search {
    terms: Vec<String>,
    is_similarity: bool,
    threshold: f64,
    case_sensitive: bool,
    order: Order,
    with_score: bool,
    limit: usize,
    batch: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Order {
    Rising,
    Falling,
    Score,
}

impl Search {
    fn parse(params: &Params) -> Result<Search, ApiError> {
        let terms: Vec<String> =
            params.get_all("search[]").filter(|term| !term.is_empty()).map(str::to_owned).collect();
        if terms.len() > MAX_TERMS {
            let got = terms.len();
            let message = format!("too many search[] terms: got {got}, maximum is {MAX_TERMS}");
            return Err(ApiError::bad_data(message));
        }
        let is_similarity = match params.get("fuzz_alg").unwrap_or("subsequence") {
            "subsequence" => false,
            "jarowinkler" => true,
            other => {
                let message = format!("unsupported fuzz_alg {other:?}: must be one of [subsequence jarowinkler]");
                return Err(ApiError::bad_data(message));
            }
        };
        let case_sensitive = flag(params, "case_sensitive", true)?;
        Ok(Search {
            order: order(params, terms.is_empty())?,
            terms: if case_sensitive { terms } else { terms.iter().map(|term| term.to_lowercase()).collect() },
            is_similarity,
            threshold: number(params, "fuzz_threshold", 0, "0-100", |n| n <= 100)? as f64 / 100.0,
            case_sensitive,
            with_score: flag(params, "include_score", false)?,
            limit: limit(params)?,
            batch: number(params, "batch_size", DEFAULT_BATCH, "a positive integer", |n| n > 0)?.min(MAX_LIMIT),
        })
    }

    /// The items that match with their scores, in order, at most one more than the limit.
    fn choose(&self, items: BTreeSet<Arc<str>>) -> Vec<(Arc<str>, f64)> {
        let mut found: Vec<_> =
            items.into_iter().filter_map(|item| self.score(&item).map(|score| (item, score))).collect();
        match self.order {
            Order::Rising => {}
            Order::Falling => found.reverse(),
            Order::Score => found.sort_by(|a, b| b.1.total_cmp(&a.1)),
        }
        found.truncate(self.limit + 1);
        found
    }

    /// The best of the terms; `None` where none fits.
    fn score(&self, item: &str) -> Option<f64> {
        if self.terms.is_empty() {
            return Some(1.0);
        }
        let folded = if self.case_sensitive { item.to_owned() } else { item.to_lowercase() };
        let of_term = |term: &String| {
            if self.is_similarity { self.similar(term, &folded) } else { self.in_order(term, &folded) }
        };
        self.terms.iter().filter_map(of_term).max_by(f64::total_cmp)
    }

    fn in_order(&self, term: &str, item: &str) -> Option<f64> {
        if item.starts_with(term) {
            return Some(1.0);
        }
        subsequence(term, item).filter(|score| *score > 0.0 && *score >= self.threshold)
    }

    /// A substring, the better the earlier; else a similar word, where a threshold is set.
    fn similar(&self, term: &str, item: &str) -> Option<f64> {
        if let Some(at) = item.find(term) {
            let (before, all, len) = (item[..at].chars().count(), item.chars().count(), term.chars().count());
            return Some(if before == 0 { 1.0 } else { 1.0 - 0.9 * before as f64 / (all - len) as f64 });
        }
        let score = jaro_winkler(term, item);
        (self.threshold > 0.0 && score >= self.threshold).then_some(score)
    }
}

fn order(params: &Params, no_terms: bool) -> Result<Order, ApiError> {
    let (by, direction) = (params.get("sort_by"), params.get("sort_dir"));
    let bad = |message: String| Err(ApiError::bad_data(message));
    match (by, direction) {
        (None, Some(_)) => bad("sort_dir is only valid when sort_by is set".to_owned()),
        (Some("score"), Some(_)) => bad("sort_dir is not supported for sort_by=score".to_owned()),
        (Some("score"), None) if no_terms => bad("sort_by=score requires search[] to be set".to_owned()),
        (Some("score"), None) => Ok(Order::Score),
        (Some("alpha"), Some("dsc")) => Ok(Order::Falling),
        (None, None) | (Some("alpha"), None | Some("asc")) => Ok(Order::Rising),
        (Some("alpha"), Some(other)) => bad(format!("invalid sort_dir {other:?}: must be \"asc\" or \"dsc\"")),
        (Some(other), _) => bad(format!("invalid sort_by {other:?}: must be \"alpha\" or \"score\"")),
    }
}

fn limit(params: &Params) -> Result<usize, ApiError> {
    let limit = number(params, "limit", DEFAULT_LIMIT, "a positive integer", |n| n > 0)?;
    if limit <= MAX_LIMIT {
        return Ok(limit);
    }
    let maximum = format!("({MAX_LIMIT}, see --web.search.max-limit)");
    Err(ApiError::bad_data(format!("limit {limit} exceeds the configured maximum {maximum}")))
}

fn flag(params: &Params, name: &str, default: bool) -> Result<bool, ApiError> {
    match params.get(name) {
        None => Ok(default),
        Some("true" | "True" | "TRUE" | "t" | "T" | "1") => Ok(true),
        Some("false" | "False" | "FALSE" | "f" | "F" | "0") => Ok(false),
        Some(other) => Err(ApiError::bad_data(format!("invalid {name} {other:?}: must be boolean"))),
    }
}

fn number(
    params: &Params,
    name: &str,
    default: usize,
    must_be: &str,
    fits: impl Fn(usize) -> bool,
) -> Result<usize, ApiError> {
    let Some(text) = params.get(name) else { return Ok(default) };
    let number = text.parse().ok().filter(|number| fits(*number));
    number.ok_or_else(|| ApiError::bad_data(format!("invalid {name} {text:?}: must be {must_be}")))
}

/// How well the characters of `pattern`, in order but not next to each other, are found in `text`: runs count by the
/// square of their length, gaps against it; 1 only for the same text.
fn subsequence(pattern: &str, text: &str) -> Option<f64> {
    if pattern == text {
        return Some(1.0);
    }
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let starts = 0..(text.len() + 1).saturating_sub(pattern.len());
    let best = starts.filter(|at| text[*at] == pattern[0]).filter_map(|at| greedy(&pattern, &text, at));
    let squared = (pattern.len() * pattern.len()) as f64;
    best.max_by(f64::total_cmp).map(|score| score / squared * 0.999)
}

fn greedy(pattern: &[char], text: &[char], start: usize) -> Option<f64> {
    let (mut score, mut matched, mut at, mut run, mut gaps) = (0.0, 0, start, 0usize, start);
    while matched < pattern.len() {
        let found = *text.get(at)? == pattern[matched];
        if found {
            (matched, run) = (matched + 1, run + 1);
        } else {
            (score, run, gaps) = (score + (run * run) as f64, 0, gaps + 1);
        }
        at += 1;
    }
    let trailing = (text.len() - at) as f64 * 0.5;
    Some(score + (run * run) as f64 - (gaps as f64 + trailing) / text.len() as f64)
}

/// Jaro's similarity, with Winkler's bonus for a common prefix of up to four characters.
fn jaro_winkler(a: &str, b: &str) -> f64 {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.is_empty() || b.is_empty() {
        return if a.len() == b.len() { 1.0 } else { 0.0 };
    }
    let window = (a.len().max(b.len()) / 2).saturating_sub(1);
    let mut used = vec![false; b.len()];
    let mut matched = Vec::new();
    for (i, c) in a.iter().enumerate() {
        let near = i.saturating_sub(window)..(i + window + 1).min(b.len());
        if let Some(j) = near.into_iter().find(|j| !used[*j] && b[*j] == *c) {
            used[j] = true;
            matched.push(*c);
        }
    }
    if matched.is_empty() {
        return 0.0;
    }
    let others = used.iter().zip(&b).filter(|(used, _)| **used).map(|(_, c)| c);
    let moved = matched.iter().zip(others).filter(|(a, b)| a != b).count() as f64 / 2.0;
    let m = matched.len() as f64;
    let jaro = (m / a.len() as f64 + m / b.len() as f64 + (m - moved) / m) / 3.0;
    let prefix = a.iter().zip(&b).take(4).take_while(|(a, b)| a == b).count() as f64;
    jaro + prefix * 0.1 * (1.0 - jaro)
}

pub async fn metric_names(
    State(app): State<App>,
    Tenant(tenant): Tenant,
    strong: StrongRead,
    params: Params,
) -> Result<Response, ApiError> {
    let with_metadata = flag(&params, "include_metadata", false)?;
    let owner = tenant.clone();
    let found = find(&app, tenant, strong, &params, |store, listing| store.label_values(listing, METRIC_NAME)).await?;
    Ok(found.respond(|name| {
        let mut item = json!({"name": name});
        if with_metadata && let Some(metadata) = app.metadata_of(&owner, name) {
            (item["type"], item["help"], item["unit"]) = metadata;
        }
        item
    }))
}

pub async fn label_names(
    State(app): State<App>,
    Tenant(tenant): Tenant,
    strong: StrongRead,
    params: Params,
) -> Result<Response, ApiError> {
    let found = find(&app, tenant, strong, &params, |store, listing| store.label_names(listing)).await?;
    Ok(found.respond(|name| json!({"name": name})))
}

pub async fn label_values(
    State(app): State<App>,
    Tenant(tenant): Tenant,
    strong: StrongRead,
    params: Params,
) -> Result<Response, ApiError> {
    let label = params.get("label").ok_or_else(|| ApiError::bad_data("missing required parameter \"label\""))?;
    let label = model::unescape_name(label);
    let found = find(&app, tenant, strong, &params, move |store, listing| store.label_values(listing, &label)).await?;
    Ok(found.respond(|value| json!({"value": value})))
}

/// What a search found, at most one more than it may show.
struct Found {
    search: Search,
    items: Vec<(Arc<str>, f64)>,
}

impl Found {
    fn respond(&self, to_json: impl Fn(&str) -> Value) -> Response {
        let shown = &self.items[..self.items.len().min(self.search.limit)];
        let item = |(name, score): &(Arc<str>, f64)| {
            let mut item = to_json(name);
            if self.search.with_score {
                item["score"] = (*score).into();
            }
            item
        };
        let mut lines = String::new();
        let mut batches: Vec<_> = shown.chunks(self.search.batch).collect();
        if batches.is_empty() {
            batches.push(&[]);
        }
        for batch in batches {
            let results: Vec<Value> = batch.iter().map(item).collect();
            lines += &format!("{}\n", json!({"results": results}));
        }
        let has_more = self.items.len() > shown.len();
        lines += &format!("{}\n", json!({"status": "success", "has_more": has_more}));
        ([(header::CONTENT_TYPE, "application/x-ndjson; charset=utf-8")], lines).into_response()
    }
}

async fn find(
    app: &App,
    tenant: String,
    strong: StrongRead,
    params: &Params,
    list: impl FnOnce(&Store, &Listing<'_>) -> Result<BTreeSet<Arc<str>>, ::query::QueryError> + Send + 'static,
) -> Result<Found, ApiError> {
    let search = Search::parse(params)?;
    let start_ms = time_or(params, "start", now_ms() - HOUR_MS)?;
    let end_ms = time_or(params, "end", now_ms())?;
    if end_ms < start_ms {
        return Err(ApiError::bad_data("end timestamp must not be before start timestamp"));
    }
    let selectors = params.get_all("match[]").map(selector).collect::<Result<Vec<_>, _>>()?;
    let timeout = app.timeout(params)?;
    app.catch_up(strong).await?;
    let found = app.evaluate(app.engine(), timeout, move |_, store, deadline| {
        let listing = Listing { tenant: &tenant, selectors: &selectors, start_ms, end_ms, deadline: Some(deadline) };
        let items = search.choose(list(store, &listing)?);
        Ok(Found { search, items })
    });
    found.await.map_err(query_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(params: &str, expected: &[&str]) {
        let items = ["node_cpu", "node_load1", "go_gc", "Node"].map(Arc::from).into();
        let search = Search::parse(&Params::parse(params)).unwrap_or_else(|error| panic!("{}", error.message));
        let found: Vec<Arc<str>> = search.choose(items).into_iter().map(|(name, _)| name).collect();
        assert_eq!(found.iter().map(|name| &**name).collect::<Vec<_>>(), expected, "{params}");
    }

    #[test]
    fn terms_choose_and_order() {
        check("", &["Node", "go_gc", "node_cpu", "node_load1"]);
        check("sort_by=alpha&sort_dir=dsc", &["node_load1", "node_cpu", "go_gc", "Node"]);
        check("search[]=ncpu", &["node_cpu"]);
        check("search[]=NODE&case_sensitive=false", &["Node", "node_cpu", "node_load1"]);
        check("search[]=load&search[]=gc", &["go_gc", "node_load1"]);
        check("search[]=load&fuzz_threshold=99", &[]);
        check("search[]=load&fuzz_alg=jarowinkler", &["node_load1"]);
        check("search[]=node_cqu&fuzz_alg=jarowinkler&fuzz_threshold=90", &["node_cpu"]);
        check("search[]=o&sort_by=score&limit=1", &["Node", "go_gc"]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in [
            "fuzz_alg=x",
            "limit=0",
            "fuzz_threshold=101",
            "sort_dir=asc",
            "sort_by=score",
            "sort_by=x",
            "include_score=2",
        ] {
            assert!(Search::parse(&Params::parse(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn similar_words_score_high() {
        assert!((jaro_winkler("martha", "marhta") - 0.961).abs() < 1e-3);
        assert_eq!(jaro_winkler("abc", "xyz"), 0.0);
        assert_eq!(subsequence("abc", "abc"), Some(1.0));
        assert!(subsequence("ac", "abc") < subsequence("ab", "abc"));
        assert_eq!(subsequence("ca", "abc"), None);
    }
}
