//! LogQL of any bytes: a query, which prints as itself, or an error with its place. A pipeline that was parsed takes any line, and what passes
//! holds the texts that a store may skip lines by.

#![no_main]

use libfuzzer_sys::fuzz_target;
use model::Labels;
use query::SelectedLine;
use query::logql::{LogExpr, Pipeline, describe, parse};

const LINES: [&str; 3] = [
    r#"{"a":"b","c":{"d":[1,null,"\u00e9"]},"e":1.5}"#,
    r#"level=info a="b \" c" d took=1.5s size=5KB"#,
    "a: b [c] \u{1b}[31md é",
];

fn run(pipeline: &Pipeline, query: &str) {
    let labels = Labels::from_pairs([("app", "x"), ("a", "b")]);
    let metadata = Labels::from_pairs([("trace", "1")]);
    let (literals, mut runner) = (pipeline.literals(), pipeline.runner());
    for text in LINES.into_iter().chain([query]) {
        let line = SelectedLine { labels: &labels, metadata: &metadata, t_ns: 1_700_000_000_000_000_000, text };
        if runner.run(&line).is_some() {
            assert!(literals.iter().all(|literal| literal.is_in(text)), "{query:?} passed {text:?}");
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let query = String::from_utf8_lossy(bytes);
    let parsed = parse(&query);
    if let Ok(expr) = &parsed {
        let printed = expr.to_string();
        let again = parse(&printed).map_err(|error| describe(&error));
        assert_eq!(again.map(|again| again.to_string()).as_deref(), Ok(printed.as_str()), "{query:?}");
        let pretty = parse(&expr.pretty()).map_err(|error| describe(&error));
        assert_eq!(pretty.map(|pretty| pretty.to_string()).as_deref(), Ok(printed.as_str()), "{query:?}");
    }
    match parsed {
        Ok(LogExpr::Log(selector)) => run(&selector.pipeline, &query),
        Ok(LogExpr::Metric(_)) => {}
        Err(error) => {
            assert!(describe(&error).starts_with("parse error "), "{error}");
            assert!(!error.pointed(&query).is_empty());
        }
    }
});
