//! Patterns: lines that differ in a few words are shown as one, with how many there are over time.
//!
//! Lines of the same number of words are put together while at least half of their words agree; where they differ, the
//! pattern has `<_>`. Words with digits differ by nature. A bounded number of the newest lines is looked at.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;

use ::query::QueryError;
use ::query::logql::LogQuery;
use ::service::http::{Params, StrongRead, Tenant};
use axum::Json;
use axum::extract::State;
use serde_json::{Value as Json_, json};

use super::Api;
use super::params::{HOUR_NS, log_selector, required, step_ms, time_range};
use super::query::{Answer, Reading};

const MAX_LINES: usize = 50_000;
/// Patterns of one number of words, and of an answer.
const MAX_ALIKE: usize = 50;
const MAX_PATTERNS: usize = 300;
/// Words of a line that are looked at; the rest is `<_>`.
const MAX_WORDS: usize = 80;
const WILD: &str = "<_>";

struct Cluster {
    words: Vec<String>,
    level: String,
    /// By the beginning of the step, in seconds.
    counts: BTreeMap<i64, u64>,
}

#[derive(Default)]
struct Clusters(HashMap<usize, Vec<Cluster>>);

/// A word as patterns hold it: what has a digit differs by nature; a key before `=` or `:` stays.
fn shape(word: &str) -> String {
    if !word.contains(|c: char| c.is_ascii_digit()) {
        return word.to_owned();
    }
    match word.find(['=', ':']).filter(|at| !word[..*at].contains(|c: char| c.is_ascii_digit())) {
        Some(at) => format!("{}{WILD}", &word[..=at]),
        None => WILD.to_owned(),
    }
}

impl Clusters {
    fn add(&mut self, line: &str, level: &str, at_s: i64) {
        let mut words: Vec<String> = line.split_whitespace().take(MAX_WORDS).map(shape).collect();
        if line.split_whitespace().nth(MAX_WORDS).is_some() {
            words.push(WILD.to_owned());
        }
        let alike = self.0.entry(words.len()).or_default();
        let agreeing = |cluster: &Cluster| cluster.words.iter().zip(&words).filter(|(a, b)| a == b).count();
        let same_level = alike.iter().enumerate().filter(|(_, cluster)| cluster.level == level);
        let best = same_level.map(|(i, cluster)| (agreeing(cluster), i)).max();
        match best {
            Some((agreeing, i)) if agreeing * 2 >= words.len() => {
                for (known, word) in alike[i].words.iter_mut().zip(&words) {
                    if known != word {
                        WILD.clone_into(known);
                    }
                }
                *alike[i].counts.entry(at_s).or_default() += 1;
            }
            _ if alike.len() < MAX_ALIKE => {
                alike.push(Cluster { words, level: level.to_owned(), counts: BTreeMap::from([(at_s, 1)]) });
            }
            _ => {}
        }
    }

    /// The most frequent first, then by their words.
    fn answer(self) -> Vec<Json_> {
        let mut clusters: Vec<Cluster> = self.0.into_values().flatten().collect();
        clusters.sort_by_cached_key(|one| (std::cmp::Reverse(one.counts.values().sum::<u64>()), one.words.clone()));
        clusters.truncate(MAX_PATTERNS);
        let pattern = |cluster: Cluster| {
            let samples: Vec<_> = cluster.counts.into_iter().collect();
            json!({"pattern": joined(&cluster.words), "level": cluster.level, "samples": samples})
        };
        clusters.into_iter().map(pattern).collect()
    }
}

/// Neighbouring wildcards are one.
fn joined(words: &[String]) -> String {
    let mut kept: Vec<&str> = words.iter().map(String::as_str).collect();
    kept.dedup_by(|a, b| *a == WILD && *b == WILD);
    kept.join(" ")
}

pub async fn patterns(State(api): State<Api>, Tenant(tenant): Tenant, strong: StrongRead, params: Params) -> Answer {
    let selector = log_selector(required(&params, "query")?)?;
    let (start_ns, end_ns) = time_range(&params, HOUR_NS)?;
    let step_s = (step_ms(&params, start_ns, end_ns)? / 1000).max(10);
    api.strong(strong).await?;
    let of_tenant = tenant.clone();
    let look = move |reading: &Reading| -> Result<Clusters, QueryError> {
        let mut clusters = Clusters::default();
        let query = LogQuery {
            start_ns,
            end_ns,
            backward: true,
            limit: MAX_LINES,
            deadline: Some(reading.deadline),
            ..LogQuery::new(&of_tenant, &selector)
        };
        reading.engine.visit(&reading.source, &query, &mut |line, processed| {
            let level = ["detected_level", "level"].into_iter().find_map(|name| processed.labels.get(name));
            let at_s = (line.t_ns / 1_000_000_000).div_euclid(step_s) * step_s;
            clusters.add(&processed.line, level.unwrap_or("unknown"), at_s);
            ControlFlow::Continue(())
        })?;
        Ok(clusters)
    };
    Ok(Json(json!({"status": "success", "data": api.evaluate(&tenant, look).await?.answer()})))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: &[&str], expected: &[(&str, u64)]) {
        let mut clusters = Clusters::default();
        lines.iter().for_each(|line| clusters.add(line, "info", 10));
        let answer = clusters.answer();
        let found: Vec<(&str, u64)> = answer
            .iter()
            .map(|pattern| (pattern["pattern"].as_str().unwrap_or(""), pattern["samples"][0][1].as_u64().unwrap_or(0)))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn lines_that_differ_in_a_few_words_are_one() {
        check(
            &["GET /a took 5ms status=200", "GET /b took 7ms status=500", "GET /c took 7ms status=200", "other text"],
            &[("GET <_> took <_> status=<_>", 3), ("other text", 1)],
        );
        check(&["a b c d", "w x y z"], &[("a b c d", 1), ("w x y z", 1)]);
        check(&["", "x 1 2 3 y"], &[("", 1), ("x <_> y", 1)]);
    }
}
