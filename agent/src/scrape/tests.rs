mod server;

use super::*;

fn history(extra: &str) -> History {
    let yaml = format!("scrape_configs:\n- job_name: j\n  static_configs: [{{targets: ['h:1']}}]\n{extra}");
    let config: service::config::Config = serde_saphyr::from_str(&yaml).expect("good YAML");
    let target = target::targets(&config.global, &config.scrape_configs).kept.remove(0);
    History { target, tenant: "t".into(), seen: HashMap::new(), metadata: Arc::default() }
}

/// One scrape of `text` (`None`: the target is down) gives these series, but for the `scrape_*` ones.
fn check(scraper: &mut History, text: Option<&str>, expected: &[&str]) {
    let samples = text.ok_or_else(|| "down".to_owned());
    let samples = samples.map(|text| text::parse(text, TextFormat::Prometheus).expect("good text"));
    let result = samples.and_then(|samples| scraper.accept(samples));
    let batch = scraper.batch(result, 1000, Duration::from_millis(5));
    let line = |series: &SeriesSamples| {
        let sample = series.samples[0];
        let value = if model::is_stale(sample.value) { "stale".to_owned() } else { sample.value.to_string() };
        format!("{} {value}@{}", series.labels, sample.t_ms)
    };
    let mut got: Vec<String> = batch.series.iter().map(line).filter(|line| !line.contains("=\"scrape_")).collect();
    got.sort();
    assert_eq!(got, expected);
}

#[test]
fn a_series_ends_when_it_vanishes_and_when_the_target_is_down() {
    let mut scraper = history("");
    let up = |value| format!(r#"{{__name__="up", instance="h:1", job="j"}} {value}@1000"#);
    let series = |name: &str, rest: &str| format!(r#"{{__name__="{name}", instance="h:1", job="j"}} {rest}"#);
    check(
        &mut scraper,
        Some("a 1\nb 2\nc 3 500\n"),
        &[&series("a", "1@1000"), &series("b", "2@1000"), &series("c", "3@500"), &up(1)],
    );
    check(&mut scraper, Some("a 1\n"), &[&series("a", "1@1000"), &series("b", "stale@1000"), &up(1)]);
    check(&mut scraper, None, &[&series("a", "stale@1000"), &up(0)]);
    check(&mut scraper, None, &[&up(0)]);
}

#[test]
fn labels_that_clash_are_exported_or_honoured() {
    let expected = r#"{__name__="a", exported_job="x", instance="h:1", job="j"} 1@1000"#;
    let up = r#"{__name__="up", instance="h:1", job="j"} 1@1000"#;
    check(&mut history(""), Some("a{job=\"x\"} 1\n"), &[expected, up]);
    let honoured = r#"{__name__="a", instance="h:1", job="x"} 1@1000"#;
    check(&mut history("  honor_labels: true\n"), Some("a{job=\"x\"} 1\n"), &[honoured, up]);
    let down = r#"{__name__="up", instance="h:1", job="j"} 0@1000"#;
    check(&mut history("  sample_limit: 1\n"), Some("a 1\nb 1\n"), &[down]);
}
