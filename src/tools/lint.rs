//! What is bad style in exposed metrics, in promtool's words (client_golang's `promlint`).

use std::collections::{BTreeMap, BTreeSet};

use agent::exposition::Exposition;
use model::{METRIC_NAME, MetricKind};

/// A unit, and the base unit that should stand in its place.
const UNITS: [(&str, &str); 24] = [
    ("amperes", "amperes"),
    ("bytes", "bytes"),
    ("celsius", "celsius"),
    ("grams", "grams"),
    ("joules", "joules"),
    ("kelvins", "kelvins"),
    ("meters", "meters"),
    ("metres", "metres"),
    ("seconds", "seconds"),
    ("volts", "volts"),
    ("minutes", "seconds"),
    ("hours", "seconds"),
    ("days", "seconds"),
    ("weeks", "seconds"),
    ("kelvin", "kelvin"),
    ("fahrenheit", "celsius"),
    ("rankine", "celsius"),
    ("inches", "meters"),
    ("yards", "meters"),
    ("miles", "meters"),
    ("bits", "bytes"),
    ("calories", "joules"),
    ("pounds", "grams"),
    ("ounces", "grams"),
];
const PREFIXES: [&str; 26] = [
    "pico", "nano", "micro", "milli", "centi", "deci", "deca", "hecto", "kilo", "kibi", "mega", "mibi", "giga", "gibi",
    "tera", "tebi", "peta", "pebi", "p", "n", "u", "m", "k", "K", "M", "G",
];
const ABBREVIATIONS: [&str; 15] =
    ["s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "tb", "pb", "m", "h", "d", "secs"];

/// Metric and problem, sorted.
pub fn problems(exposition: &Exposition) -> Vec<(String, String)> {
    let mut found = BTreeSet::new();
    let kinds = kinds(exposition);
    for (name, kind) in &kinds {
        let mut say = |problem: String| {
            found.insert((name.clone(), problem));
        };
        let described = exposition.metadata.iter().find(|one| one.name == *name);
        if described.is_none_or(|one| one.help.is_empty()) {
            say("no help text".to_owned());
        }
        of_name(name, *kind).into_iter().for_each(&mut say);
    }
    for sample in &exposition.samples {
        let metric = family(sample.labels.get(METRIC_NAME).unwrap_or(""), &kinds);
        let kind = kinds.get(&metric).copied().unwrap_or_default();
        for label in sample.labels.iter().filter(|label| &*label.name != METRIC_NAME) {
            let mut say = |problem: &str| {
                found.insert((metric.clone(), problem.to_owned()));
            };
            if is_camel_case(&label.name) {
                say("label names should be written in 'snake_case' not 'camelCase'");
            }
            if &*label.name == "le" && !matches!(kind, MetricKind::Histogram | MetricKind::GaugeHistogram) {
                say("non-histogram metrics should not have \"le\" label");
            }
            if &*label.name == "quantile" && kind != MetricKind::Summary {
                say("non-summary metrics should not have \"quantile\" label");
            }
        }
    }
    found.into_iter().collect()
}

/// The families of a text: those with a type, and the names of samples that belong to none.
fn kinds(exposition: &Exposition) -> BTreeMap<String, MetricKind> {
    let mut kinds: BTreeMap<String, MetricKind> =
        exposition.metadata.iter().map(|one| (one.name.clone(), one.kind)).collect();
    for sample in &exposition.samples {
        let metric = family(sample.labels.get(METRIC_NAME).unwrap_or(""), &kinds);
        kinds.entry(metric).or_default();
    }
    kinds
}

/// The family of a sample's name: without a suffix that belongs to the family's type.
fn family(name: &str, kinds: &BTreeMap<String, MetricKind>) -> String {
    let of = |suffix: &str| name.strip_suffix(suffix).and_then(|base| Some((base, *kinds.get(base)?)));
    let compound = |kind| matches!(kind, MetricKind::Histogram | MetricKind::GaugeHistogram | MetricKind::Summary);
    for suffix in ["_bucket", "_count", "_sum", "_total", "_created"] {
        if let Some((base, kind)) = of(suffix)
            && (compound(kind) || suffix == "_total" && kind == MetricKind::Counter)
        {
            return base.to_owned();
        }
    }
    name.to_owned()
}

fn of_name(name: &str, kind: MetricKind) -> Vec<String> {
    let mut problems = Vec::new();
    let is_compound = matches!(kind, MetricKind::Histogram | MetricKind::GaugeHistogram | MetricKind::Summary);
    if kind == MetricKind::Counter && !name.ends_with("_total") {
        problems.push("counter metrics should have \"_total\" suffix".to_owned());
    }
    if !matches!(kind, MetricKind::Counter | MetricKind::Unknown) && name.ends_with("_total") {
        problems.push("non-counter metrics should not have \"_total\" suffix".to_owned());
    }
    if !is_compound && kind != MetricKind::Unknown {
        for (suffix, of) in
            [("_bucket", "histogram"), ("_count", "histogram and non-summary"), ("_sum", "histogram and non-summary")]
        {
            if name.ends_with(suffix) {
                problems.push(format!("non-{of} metrics should not have \"{suffix}\" suffix"));
            }
        }
    }
    let kind_name = kind.as_str();
    if kind != MetricKind::Unknown && name.to_lowercase().split('_').any(|part| part == kind_name) {
        problems.push(format!("metric name should not include type '{kind_name}'"));
    }
    if name.contains(':') {
        problems.push("metric names should not contain ':'".to_owned());
    }
    if is_camel_case(name) {
        problems.push("metric names should be written in 'snake_case' not 'camelCase'".to_owned());
    }
    for part in name.split('_') {
        if let Some((unit, base)) = unit(part).filter(|(unit, base)| unit != base) {
            problems.push(format!("use base unit \"{base}\" instead of \"{unit}\""));
        }
    }
    let last = name.strip_suffix("_total").unwrap_or(name).rsplit('_').next().unwrap_or("");
    if name.contains('_') && ABBREVIATIONS.contains(&last.to_lowercase().as_str()) {
        problems.push("metric names should not contain abbreviated units".to_owned());
    }
    problems
}

/// A unit with or without a prefix, and its base.
fn unit(part: &str) -> Option<(&str, &'static str)> {
    let base = |unit: &str| UNITS.iter().find(|(name, _)| *name == unit).map(|(_, base)| *base);
    let prefixed = || PREFIXES.iter().find_map(|prefix| base(part.strip_prefix(prefix)?));
    Some((part, base(part).or_else(prefixed)?))
}

fn is_camel_case(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.windows(2).any(|two| two[0].is_ascii_lowercase() && two[1].is_ascii_uppercase())
}

/// Series per metric, most first, and in all.
pub fn cardinality(exposition: &Exposition) -> (Vec<(String, usize)>, usize) {
    let kinds = kinds(exposition);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for sample in &exposition.samples {
        *counts.entry(family(sample.labels.get(METRIC_NAME).unwrap_or(""), &kinds)).or_default() += 1;
    }
    let mut rows: Vec<(String, usize)> = counts.into_iter().collect();
    rows.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    (rows, exposition.samples.len())
}

#[cfg(test)]
mod tests {
    use agent::exposition::{TextFormat, parse};

    use super::*;

    fn check(text: &str, expected: &[(&str, &str)]) {
        let exposition = parse(text, TextFormat::Prometheus).expect("good text");
        let found = problems(&exposition);
        let found: Vec<_> = found.iter().map(|(metric, problem)| (metric.as_str(), problem.as_str())).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn bad_style_is_said_in_promtools_words() {
        let good = "# HELP a_seconds x\n# TYPE a_seconds histogram\na_seconds_bucket{le=\"1\"} 1\na_seconds_sum 1\n";
        check(good, &[]);
        check(
            "# TYPE a counter\na 1\n",
            &[("a", "counter metrics should have \"_total\" suffix"), ("a", "no help text")],
        );
        check(
            "# HELP a_total x\n# TYPE a_total gauge\na_total{le=\"1\"} 1\n",
            &[
                ("a_total", "non-counter metrics should not have \"_total\" suffix"),
                ("a_total", "non-histogram metrics should not have \"le\" label"),
            ],
        );
        check(
            "# HELP a_milliseconds x\n# TYPE a_milliseconds gauge\na_milliseconds{fooBar=\"1\"} 1\n",
            &[
                ("a_milliseconds", "label names should be written in 'snake_case' not 'camelCase'"),
                ("a_milliseconds", "use base unit \"seconds\" instead of \"milliseconds\""),
            ],
        );
        check(
            "# HELP a:b_gauge x\n# TYPE a:b_gauge gauge\na:b_gauge 1\n",
            &[
                ("a:b_gauge", "metric name should not include type 'gauge'"),
                ("a:b_gauge", "metric names should not contain ':'"),
            ],
        );
    }

    #[test]
    fn a_family_counts_with_all_its_series() {
        let text = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\nup 1\n";
        let exposition = parse(text, TextFormat::Prometheus).expect("good text");
        assert_eq!(cardinality(&exposition), (vec![("h".into(), 4), ("up".into(), 1)], 5));
    }
}
