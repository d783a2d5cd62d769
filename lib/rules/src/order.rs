//! Which rules of a group may run at the same time.
//!
//! A rule needs another when one of its selectors may read what the other writes: the recorded metric, or `ALERTS` and
//! `ALERTS_FOR_STATE` of an alert. It then keeps its place: after the other if it stands after it, else before it.

use query::promql::{VectorSelector, parse, selectors};

use crate::file::{GroupSpec, Kind, RuleSpec};

/// What a rule reads.
enum Reads {
    Nothing,
    Selectors(Vec<VectorSelector>),
    /// It cannot be told: a template asks.
    Anything,
}

/// Rules by number in waves: those of one wave need nothing of each other.
pub fn waves(spec: &GroupSpec) -> Vec<Vec<usize>> {
    let reads: Vec<Reads> = spec.rules.iter().map(|rule| reads_of(rule, spec.kind)).collect();
    let mut wave_of: Vec<usize> = Vec::new();
    let mut waves: Vec<Vec<usize>> = Vec::new();
    for i in 0..spec.rules.len() {
        let touches = |j: usize| reads[i].may_read(&spec.rules[j]) || reads[j].may_read(&spec.rules[i]);
        let wave = (0..i).filter(|j| touches(*j)).map(|j| wave_of[j] + 1).max().unwrap_or(0);
        if waves.len() == wave {
            waves.push(Vec::new());
        }
        waves[wave].push(i);
        wave_of.push(wave);
    }
    waves
}

fn reads_of(rule: &RuleSpec, kind: Kind) -> Reads {
    let mut texts = rule.labels.values().chain(rule.annotations.values());
    if texts.any(|text| text.contains("query")) {
        return Reads::Anything;
    }
    match kind {
        // Nothing that rules write goes into the store of lines.
        Kind::Logql => Reads::Nothing,
        Kind::Promql => match parse(&rule.expr) {
            Ok(expr) => Reads::Selectors(selectors(&expr).into_iter().cloned().collect()),
            Err(_) => Reads::Anything,
        },
    }
}

impl Reads {
    fn may_read(&self, rule: &RuleSpec) -> bool {
        let selectors = match self {
            Reads::Nothing => return false,
            Reads::Anything => return true,
            Reads::Selectors(selectors) => selectors,
        };
        let written: &[&str] = if rule.is_alert { &["ALERTS", "ALERTS_FOR_STATE"] } else { &[&rule.name] };
        let may_select = |selector: &VectorSelector, name: &str| {
            let names = selector.matchers.iter().filter(|matcher| matcher.name == model::METRIC_NAME);
            names.into_iter().all(|matcher| matcher.matches(name))
        };
        selectors.iter().any(|selector| written.iter().any(|name| may_select(selector, name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rules: &str, expected: &[&[usize]]) {
        let text = format!("groups: [{{name: g, rules: [{rules}]}}]");
        let groups = crate::file::parse("f", &text, 1000, 0).expect("good");
        assert_eq!(waves(&groups[0]), expected, "{rules}");
    }

    #[test]
    fn who_reads_what_another_writes_keeps_its_place() {
        check("{record: a, expr: up}, {record: b, expr: down}", &[&[0, 1]]);
        check("{record: a, expr: up}, {record: b, expr: a}, {record: c, expr: up}", &[&[0, 2], &[1]]);
        check("{record: b, expr: a}, {record: a, expr: up}", &[&[0], &[1]]);
        check("{record: a, expr: up}, {record: b, expr: '{job=\"x\"}'}", &[&[0], &[1]]);
        check("{record: a, expr: up}, {record: b, expr: '{__name__=~\"c|d\"}'}", &[&[0, 1]]);
        check("{alert: A, expr: up}, {record: b, expr: 'count(ALERTS)'}, {alert: C, expr: down}", &[&[0], &[1], &[2]]);
        check("{record: a, expr: a}, {record: a, expr: up}", &[&[0], &[1]]);
        check("{record: a, expr: up}, {alert: B, expr: up, annotations: {x: '{{ query \"a\" }}'}}", &[&[0], &[1]]);
    }
}
