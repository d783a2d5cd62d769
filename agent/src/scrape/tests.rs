mod server;

use model::{SeriesSamples, stale_marker};

use super::fetch::Body;
use super::*;
use text::TextFormat;

pub fn history(extra: &str) -> History {
    let yaml = format!("scrape_configs:\n- job_name: j\n  static_configs: [{{targets: ['h:1']}}]\n{extra}");
    let config: service::config::Config = serde_saphyr::from_str(&yaml).expect("good YAML");
    let job = Arc::new(Job::new(&config.global, &config.scrape_configs[0]).expect("a job"));
    let target = targets(&job, static_targets(&job.config)).kept.remove(0);
    History::new(Arc::new(target), "t".into(), Texts::default(), Counters::default())
}

/// `labels value@time` of samples; histograms by their count and schema.
fn lines(series: &[SeriesSamples]) -> Vec<String> {
    let shown = |value: f64| if model::is_stale(value) { "stale".to_owned() } else { value.to_string() };
    let line = |series: &SeriesSamples| {
        let floats = series.samples.iter().map(|sample| format!("{}@{}", shown(sample.value), sample.t_ms));
        let histograms = series.histograms.iter().map(|sample| {
            let histogram = &sample.histogram;
            match histogram.is_stale() {
                true => format!("stale histogram@{}", sample.t_ms),
                false => format!("{} in {}@{}", histogram.count, histogram.schema, sample.t_ms),
            }
        });
        format!("{} {}", series.labels, floats.chain(histograms).collect::<Vec<_>>().join(" "))
    };
    let mut lines: Vec<String> = series.iter().map(line).collect();
    lines.sort();
    lines
}

/// One scrape of `text` (`None`: the target is down) gives these series, but for the `scrape_*` ones.
fn check(scraper: &mut History, text: Option<&str>, expected: &[&str]) {
    let body = text.map(|text| Body::of_text(text, TextFormat::Prometheus)).ok_or_else(|| "down".to_owned());
    let (batch, _) = scraper.scrape(body, 1000, Duration::from_millis(5));
    let got: Vec<String> = lines(&batch.series).into_iter().filter(|line| !line.contains("=\"scrape_")).collect();
    assert_eq!(got, expected);
}

fn up(value: u8) -> String {
    format!(r#"{{__name__="up", instance="h:1", job="j"}} {value}@1000"#)
}

fn series(name: &str, rest: &str) -> String {
    format!(r#"{{__name__="{name}", instance="h:1", job="j"}} {rest}"#)
}

#[test]
fn a_series_ends_when_it_vanishes_and_when_the_target_is_down() {
    let mut scraper = history("");
    check(
        &mut scraper,
        Some("a 1\nb 2\nc 3 500\n"),
        &[&series("a", "1@1000"), &series("b", "2@1000"), &series("c", "3@500"), &up(1)],
    );
    check(&mut scraper, Some("a 1\n"), &[&series("a", "1@1000"), &series("b", "stale@1000"), &up(1)]);
    check(&mut scraper, None, &[&series("a", "stale@1000"), &up(0)]);
    check(&mut scraper, None, &[&up(0)]);
    check(&mut scraper, Some("a 1\n"), &[&series("a", "1@1000"), &up(1)]);
    check(&mut scraper, Some("a 1\nd{\n"), &[&series("a", "stale@1000"), &up(0)]);
    check(&mut scraper, Some(""), &[&up(1)]);
}

#[test]
fn times_of_the_target_are_honoured_or_not() {
    check(&mut history("  honor_timestamps: false\n"), Some("c 3 500\n"), &[&series("c", "3@1000"), &up(1)]);
    let mut tracking = history("  track_timestamps_staleness: true\n");
    check(&mut tracking, Some("c 3 500\nfar 1 9999999\n"), &[&series("c", "3@500"), &up(1)]);
    check(&mut tracking, Some("far 1 9999999\n"), &[&series("c", "stale@1000"), &up(1)]);
    // The same sample again is left out; another time is another sample.
    check(&mut history(""), Some("c 3 5\nc 4 5\nc 5 6\n"), &[&series("c", "3@5"), &series("c", "5@6"), &up(1)]);
}

#[test]
fn labels_that_clash_are_exported_or_honoured() {
    let expected = r#"{__name__="a", exported_job="x", instance="h:1", job="j"} 1@1000"#;
    check(&mut history(""), Some("a{job=\"x\"} 1\n"), &[expected, &up(1)]);
    let honoured = r#"{__name__="a", instance="h:1", job="x"} 1@1000"#;
    check(&mut history("  honor_labels: true\n"), Some("a{job=\"x\"} 1\n"), &[honoured, &up(1)]);
}

/// A scrape under these settings fails so.
fn check_refusal(extra: &str, text: &str, expected: &str) {
    let mut scraper = history(extra);
    let body = Body::of_text(text, TextFormat::Prometheus);
    let (batch, outcome) = scraper.scrape(Ok(body), 1000, Duration::from_millis(5));
    assert_eq!(outcome.error.as_deref(), Some(expected));
    assert_eq!(
        lines(&batch.series).into_iter().filter(|line| !line.contains("=\"scrape_")).collect::<Vec<_>>(),
        [up(0)]
    );
}

#[test]
fn limits_fail_a_scrape_in_prometheus_words() {
    check_refusal("  sample_limit: 1\n", "a 1\nb 1\n", "sample limit exceeded");
    check_refusal(
        "  label_limit: 3\n",
        "a{b=\"c\"} 1\n",
        "label_limit exceeded (metric: a, number of labels: 4, limit: 3)",
    );
    check_refusal(
        "  label_name_length_limit: 8\n",
        "a{long_name=\"c\"} 1\n",
        "label_name_length_limit exceeded (metric: a, label name: long_name, length: 9, limit: 8)",
    );
    check_refusal(
        "  label_value_length_limit: 3\n",
        "a{b=\"long\"} 1\n",
        "label_value_length_limit exceeded (metric: a, label name: b, value: \"long\", length: 4, limit: 3)",
    );
    check_refusal(
        "  metric_name_validation_scheme: legacy\n",
        "{\"a.b\"} 1\n",
        r#"invalid metric name or label names: {__name__="a.b", instance="h:1", job="j"}"#,
    );
    check_refusal(
        "  metric_relabel_configs: [{regex: __name__, action: labeldrop}]\n",
        "a 1\n",
        "missing metric name (__name__ label)",
    );
    check_refusal("", "a 1\nb one\n", "line 2: not a number");
}

#[test]
fn what_relabelling_drops_is_counted_and_not_limited() {
    let extra = "  sample_limit: 1\n  extra_scrape_metrics: true\n  body_size_limit: 1KB\n  metric_relabel_configs: \
                 [{source_labels: [__name__], regex: drop.*, action: drop}]\n";
    let mut scraper = history(extra);
    for added in [1, 0] {
        let body = Body::of_text("drop1 1\na 1\ndrop2 1\n", TextFormat::Prometheus);
        let (batch, outcome) = scraper.scrape(Ok(body), 1000, Duration::from_millis(5));
        assert_eq!((outcome.error, outcome.scraped, outcome.kept), (None, 3, 1));
        let value = |name: &str| {
            let found = batch.series.iter().find(|series| series.labels.metric_name() == Some(name));
            found.map(|series| series.samples[0].value)
        };
        for (name, expected) in [
            ("scrape_samples_scraped", 3.0),
            ("scrape_samples_post_metric_relabeling", 1.0),
            ("scrape_series_added", f64::from(added)),
            ("scrape_timeout_seconds", 10.0),
            ("scrape_sample_limit", 1.0),
            ("scrape_body_size_bytes", 20.0),
        ] {
            assert_eq!(value(name), Some(expected), "{name}");
        }
    }
}

/// A scrape of the protobuf body of [`protobuf::tests`] under these settings.
fn check_protobuf(extra: &str, expected: &[&str]) {
    let mut scraper = history(extra);
    for _ in 0..2 {
        let body = Body::of_protobuf(protobuf::tests::body());
        let (batch, outcome) = scraper.scrape(Ok(body), 1000, Duration::from_millis(5));
        assert_eq!(outcome.error, None);
        let got = lines(&batch.series).into_iter().filter(|line| line.contains("__name__=\"h"));
        assert_eq!(got.collect::<Vec<_>>(), expected);
    }
    let (batch, _) = scraper.scrape(Err("down".to_owned()), 2000, Duration::from_millis(5));
    let stale = lines(&batch.series).into_iter().filter(|line| line.contains(" stale")).count();
    assert_eq!(stale, expected.len() + 1, "all but those with times of their own");
}

#[test]
fn histograms_come_in_the_form_that_is_wanted() {
    let (native, custom) = (series("h", "4 in 0@1000"), series("h", "4 in -53@1000"));
    let bucket =
        |le: &str, count: u8| format!(r#"{{__name__="h_bucket", instance="h:1", job="j", le="{le}"}} {count}@1000"#);
    let classic =
        [bucket("+Inf", 4), bucket("1.0", 1), bucket("2.5", 4), series("h_count", "4@1000"), series("h_sum", "9@1000")];
    let classic: Vec<&str> = classic.iter().map(String::as_str).collect();
    let with_native: Vec<&str> = [&[native.as_str()][..], &classic].concat();
    check_protobuf("", &classic);
    check_protobuf("  scrape_native_histograms: true\n", &[&native]);
    check_protobuf("  scrape_native_histograms: true\n  always_scrape_classic_histograms: true\n", &{
        let mut lines = with_native.clone();
        lines.sort();
        lines
    });
    check_protobuf("  convert_classic_histograms_to_nhcb: true\n", &[&custom]);
    check_protobuf("  scrape_native_histograms: true\n  convert_classic_histograms_to_nhcb: true\n", &[&native]);
    let coarse = series("h", "4 in -1@1000");
    check_protobuf("  scrape_native_histograms: true\n  native_histogram_min_bucket_factor: 4\n", &[&coarse]);
    check_protobuf("  scrape_native_histograms: true\n  native_histogram_bucket_limit: 1\n", &[&coarse]);
}

#[test]
fn the_end_of_a_target_ends_all_its_series() {
    let mut scraper = history("");
    check(&mut scraper, Some("a 1\n"), &[&series("a", "1@1000"), &up(1)]);
    let ends = lines(&scraper.end(2000).series);
    assert_eq!(ends.len(), 6, "{ends:?}");
    assert!(ends.contains(&series("up", "stale@2000")) && ends.contains(&series("a", "stale@2000")), "{ends:?}");
    assert!(stale_marker().is_nan());
}

#[test]
fn a_changed_job_goes_on_with_the_series_it_had() {
    let mut scraper = history("");
    check(&mut scraper, Some("a 1\nb 1\n"), &[&series("a", "1@1000"), &series("b", "1@1000"), &up(1)]);
    let other = history("  metric_relabel_configs: [{source_labels: [__name__], regex: b, action: drop}]\n");
    scraper.retarget(other.target.clone());
    check(&mut scraper, Some("a 1\nb 1\n"), &[&series("a", "1@1000"), &series("b", "stale@1000"), &up(1)]);
}
