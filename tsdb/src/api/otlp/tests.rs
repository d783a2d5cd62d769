use proptest::prelude::*;
use prost::Message;
use service::config::Otlp;

use super::delta::{Changes, Deltas};
use super::message::*;
use super::translate::{Translated, has_delta, translate};
use super::{Encoding, PartialSuccess, Response};

const LOOKBACK_MS: i64 = 300_000;

fn read(json: &str) -> Request {
    let request = Encoding::Json.decode(json.as_bytes()).unwrap_or_else(|error| panic!("{error}: {json}"));
    let again = Encoding::Protobuf.decode(&request.encode_to_vec()).expect("what was encoded is read");
    assert_eq!(again.encode_to_vec(), request.encode_to_vec(), "both encodings say the same");
    request
}

/// One line per sample: labels, time, value, and start and exemplars where there are any.
fn lines(translated: &Translated) -> Vec<String> {
    let mut lines = Vec::new();
    for one in &translated.batch.series {
        for (i, sample) in one.samples.iter().enumerate() {
            let start = one.starts_ms.get(i).filter(|start_ms| **start_ms != 0);
            let start = start.map_or(String::new(), |start_ms| format!(" since {start_ms}"));
            let value = if model::is_stale(sample.value) { "stale".to_owned() } else { sample.value.to_string() };
            lines.push(format!("{} @{} {value}{start}", one.labels, sample.t_ms));
        }
        for one in &one.histograms {
            lines.push(format!("histogram @{} {}", one.t_ms, one.histogram.test_expression()));
        }
        for exemplar in &one.exemplars {
            lines.push(format!("exemplar @{} {} {}", exemplar.t_ms, exemplar.value, exemplar.labels));
        }
    }
    lines.extend(translated.refusals.lines());
    lines
}

/// One metric of one resource, as JSON, must give these lines.
fn check(resource: &str, metric: &str, config: &Otlp, expected: &[&str]) {
    let text = format!(
        r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{resource}]}},"scopeMetrics":[{{"scope":{{"name":"lib","version":"1","attributes":[{}]}},"schemaUrl":"u","metrics":[{metric}]}}]}}]}}"#,
        attribute("k", "v")
    );
    let request = read(&text);
    let deltas = Deltas::default();
    let changes = has_delta(&request).then(|| Changes::new(&deltas, "t"));
    assert_eq!(lines(&translate(request, config, LOOKBACK_MS, changes)), expected, "{metric}");
}

fn attribute(key: &str, value: &str) -> String {
    format!(r#"{{"key":"{key}","value":{{"stringValue":"{value}"}}}}"#)
}

#[test]
fn numbers() {
    let otlp = Otlp::default();
    let service = [
        attribute("service.name", "shop"),
        attribute("service.namespace", "eu"),
        attribute("service.instance.id", "i1"),
    ];
    let point = r#"{"attributes":[{"key":"a.b","value":{"stringValue":"x"}},{"key":"a_b","value":{"intValue":"7"}}],
        "startTimeUnixNano":"1000000000","timeUnixNano":"2000000000","asInt":"3",
        "exemplars":[{"traceId":"0102","timeUnixNano":1500000000,"asDouble":0.5,"filteredAttributes":[]}]}"#;
    let sum = format!(
        r#"{{"name":"jobs.done","unit":"By","sum":{{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[{point}]}}}}"#
    );
    check(
        &service.join(","),
        &sum,
        &otlp,
        &[
            r#"{__name__="jobs_done_bytes_total", a_b="x;7", instance="i1", job="eu/shop"} @2000 3 since 1000"#,
            r#"exemplar @1500 0.5 {trace_id="0102"}"#,
        ],
    );
    let gauge = r#"{"name":"g","unit":"1","gauge":{"dataPoints":[
        {"timeUnixNano":"2000000","asDouble":"NaN"},{"timeUnixNano":"3000000","flags":1}]}}"#;
    check("", gauge, &otlp, &[r#"{__name__="g_ratio"} @2 NaN"#, r#"{__name__="g_ratio"} @3 stale"#]);
    let unspecified = r#"{"name":"s","sum":{"dataPoints":[{"timeUnixNano":"2000000"}]}}"#;
    check("", unspecified, &otlp, &["1 samples refused: no aggregation temporality: s"]);
    let nameless = r#"{"name":"x","gauge":{"dataPoints":[{"attributes":[{"key":"","value":{}}],"timeUnixNano":"1"}]}}"#;
    check("", nameless, &otlp, &["1 samples refused: no label name: label name is empty, of x"]);
}

#[test]
fn resources_and_scopes() {
    let gauge = r#"{"name":"g","gauge":{"dataPoints":[{"timeUnixNano":"1000000","asInt":1},{"timeUnixNano":"200001000000","asInt":2}]}}"#;
    let resource = [attribute("service.name", "shop"), attribute("host.name", "h"), attribute("zone", "z")].join(",");
    let promoting = Otlp {
        promote_resource_attributes: vec!["zone".into()],
        keep_identifying_resource_attributes: true,
        promote_scope_metadata: true,
        ..Otlp::default()
    };
    let labels = r#"{__name__="g", job="shop", otel_scope_k="v", otel_scope_name="lib", otel_scope_schema_url="u", otel_scope_version="1", zone="z"}"#;
    let target = r#"{__name__="target_info", host_name="h", job="shop", service_name="shop", zone="z"}"#;
    check(
        &resource,
        gauge,
        &promoting,
        &[
            &format!("{labels} @1 1"),
            &format!("{labels} @200001 2"),
            &format!("{target} @1 1"),
            &format!("{target} @150001 1"),
            &format!("{target} @200001 1"),
        ],
    );
    // Names that become one: of promoted attributes the last, in target_info both.
    let colliding = [attribute("service.name", "shop"), attribute("z-z", "1"), attribute("z.z", "2")].join(",");
    let promoting = Otlp {
        promote_all_resource_attributes: true,
        ignore_resource_attributes: vec!["service.name".into()],
        ..Otlp::default()
    };
    let one = r#"{"name":"g","gauge":{"dataPoints":[{"timeUnixNano":"1000000","asInt":1}]}}"#;
    let expected =
        [r#"{__name__="g", job="shop", z_z="2"} @1 1"#, r#"{__name__="target_info", job="shop", z_z="1;2"} @1 1"#];
    check(&colliding, one, &promoting, &expected);
    // Without job and instance nobody could join it.
    check(&attribute("zone", "z"), gauge, &Otlp::default(), &[r#"{__name__="g"} @1 1"#, r#"{__name__="g"} @200001 2"#]);
}

#[test]
fn what_all_points_share_is_bounded() {
    let long = "x".repeat(20_000);
    let gauge = r#"{"name":"g","gauge":{"dataPoints":[{"timeUnixNano":"1000000","asInt":1}]}}"#;
    let refused = "1 samples refused: attributes of resource or scope are too long: ";
    check(&attribute("service.name", &long), gauge, &Otlp::default(), &[refused]);
    let named = gauge.replace("\"g\"", &format!("\"{long}\""));
    check("", &named, &Otlp::default(), &["1 samples refused: metric name too long: "]);
    // From 1970 to 2554.
    let wide = gauge.replace("]}}", r#",{"timeUnixNano":"18446744073709551615","asInt":2}]}}"#);
    let resource = [attribute("service.name", "shop"), attribute("zone", "z")].join(",");
    let text = format!(
        r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{resource}]}},"scopeMetrics":[{{"metrics":[{wide}]}}]}}]}}"#
    );
    let translated = translate(read(&text), &Otlp::default(), LOOKBACK_MS, None);
    assert!((900..=1004).contains(&translated.batch.sample_count()), "{}", translated.batch.sample_count());
}

const EXPLICIT: &str = r#"{"name":"h","unit":"s","histogram":{"aggregationTemporality":"AGGREGATION_TEMPORALITY_CUMULATIVE","dataPoints":[
    {"timeUnixNano":"2000000","count":"6","sum":9.5,"bucketCounts":["1","2","3"],"explicitBounds":[0.5,10],
     "exemplars":[{"timeUnixNano":"1000000","asDouble":0.7,"spanId":"ff"},{"timeUnixNano":"1000000","asInt":99}]}]}}"#;

#[test]
fn histograms() {
    let line = |name: &str, le: &str, value: &str| format!(r#"{{__name__="{name}"{le}}} @2 {value}"#);
    check(
        "",
        EXPLICIT,
        &Otlp::default(),
        &[
            &line("h_seconds_sum", "", "9.5"),
            &line("h_seconds_count", "", "6"),
            &line("h_seconds_bucket", ", le=\"0.5\"", "1"),
            &line("h_seconds_bucket", ", le=\"10\"", "3"),
            r#"exemplar @1 0.7 {span_id="ff"}"#,
            &line("h_seconds_bucket", ", le=\"+Inf\"", "6"),
            "exemplar @1 99 {}",
        ],
    );
    let native = Otlp { convert_histograms_to_nhcb: true, ..Otlp::default() };
    let expected = [
        "histogram @2 {{schema:-53 count:6 sum:9.5 custom_values:[0.5 10] buckets:[1 2 3]}}",
        r#"exemplar @1 0.7 {span_id="ff"}"#,
        "exemplar @1 99 {}",
    ];
    check("", EXPLICIT, &native, &expected);
    let exponential = r#"{"name":"e","exponentialHistogram":{"aggregationTemporality":2,"dataPoints":[
        {"timeUnixNano":"2000000","count":"4","sum":9.5,"scale":1,"zeroCount":"1","zeroThreshold":0.25,
         "positive":{"offset":2,"bucketCounts":["1","0","2"]}},
        {"timeUnixNano":"3000000","count":"9","scale":1},{"timeUnixNano":"4000000","flags":1}]}}"#;
    check(
        "",
        exponential,
        &Otlp::default(),
        &[
            "histogram @2 {{schema:1 count:4 sum:9.5 z_bucket:1 z_bucket_w:0.25 offset:3 buckets:[1 0 2]}}",
            "histogram @4 {{sum:NaN}}",
            "1 samples refused: malformed histogram: 0 observations found in buckets, but the Count field is 9: \
             histogram's observation count should equal the number of observations found in the buckets (in absence of NaN)\
             , of {__name__=\"e\"}",
        ],
    );
    let summary = r#"{"name":"q","summary":{"dataPoints":[{"timeUnixNano":"2000000","count":"4","sum":9.5,
        "quantileValues":[{"quantile":0.99,"value":7}]}]}}"#;
    let quantile = r#"{__name__="q", quantile="0.99"} @2 7"#;
    check("", summary, &Otlp::default(), &[&line("q_sum", "", "9.5"), &line("q_count", "", "4"), quantile]);
}

#[test]
fn deltas_become_totals() {
    let point = |start: u64, value: u64| {
        format!(r#"{{"startTimeUnixNano":"{start}000000","timeUnixNano":"{}000000","asInt":{value}}}"#, start + 10)
    };
    let points = [point(10, 1), point(20, 2), point(15, 4)].join(",");
    let sum =
        format!(r#"{{"name":"d","sum":{{"aggregationTemporality":1,"isMonotonic":true,"dataPoints":[{points}]}}}}"#);
    let total = r#"{__name__="d_total"}"#;
    check(
        "",
        &sum,
        &Otlp::default(),
        &[
            &format!("{total} @20 1 since 10"),
            &format!("{total} @30 3 since 10"),
            &format!("1 samples refused: a delta that is not newer than the one before it: {total}"),
        ],
    );
    let explicit = EXPLICIT.replace("CUMULATIVE", "DELTA").replace("}]}}", "},POINT]}}");
    let second = r#"{"timeUnixNano":"3000000","count":"2","sum":1,"bucketCounts":[0,2,0],"explicitBounds":[0.5,10]}"#;
    let native = Otlp { convert_histograms_to_nhcb: true, ..Otlp::default() };
    let expected = [
        "histogram @2 {{schema:-53 count:6 sum:9.5 custom_values:[0.5 10] buckets:[1 2 3]}}",
        "histogram @3 {{schema:-53 count:8 sum:10.5 custom_values:[0.5 10] buckets:[1 4 3]}}",
        r#"exemplar @1 0.7 {span_id="ff"}"#,
        "exemplar @1 99 {}",
    ];
    check("", &explicit.replace("POINT", second), &native, &expected);
}

#[test]
fn answers_read_as_the_specification_says() {
    let partial = PartialSuccess { rejected_data_points: 3, error_message: "why".into() };
    let json = |response: &Response| serde_json::to_string(response).expect("it is JSON");
    assert_eq!(json(&Response::default()), "{}");
    let expected = r#"{"partialSuccess":{"rejectedDataPoints":"3","errorMessage":"why"}}"#;
    assert_eq!(json(&Response { partial_success: Some(partial) }), expected);
}

#[test]
fn attribute_values_have_texts() {
    let text = |json: &str| serde_json::from_str::<AnyValue>(json).expect("a value").text();
    let nested = r#"{"kvlistValue":{"values":[{"key":"a","value":{"arrayValue":{"values":[{"intValue":1},{"doubleValue":2.0},{"bytesValue":"AQI="}]}}}]}}"#;
    let shown = [
        r#"{"boolValue":true}"#,
        r#"{"doubleValue":1e21}"#,
        r#"{"doubleValue":0.5}"#,
        r#"{"bytesValue":"AQI="}"#,
        "{}",
        nested,
    ];
    assert_eq!(shown.map(text), ["true", "1e+21", "0.5", "AQI=", "", r#"{"a":[1,2,"AQI="]}"#]);
}

fn take_anything(request: Request) {
    let deltas = Deltas::default();
    for config in [Otlp::default(), Otlp { convert_histograms_to_nhcb: true, ..Otlp::default() }] {
        let translated = translate(request.clone(), &config, LOOKBACK_MS, Some(Changes::new(&deltas, "t")));
        for one in &translated.batch.series {
            assert!(one.starts_ms.is_empty() || one.starts_ms.len() == one.samples.len());
            assert!(one.labels.metric_name().is_some());
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Encoding::Protobuf.decode(&bytes).map(take_anything);
        let _ = Encoding::Json.decode(&bytes).map(take_anything);
    }

    /// A good message with some bytes changed is mostly still one.
    #[test]
    fn damaged_messages_never_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..9)) {
        let text = format!(r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{EXPLICIT}]}}]}}]}}"#);
        let mut bytes = read(&text).encode_to_vec();
        for (at, byte) in &changes {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        let _ = Encoding::Protobuf.decode(&bytes).map(take_anything);
        let mut bytes = text.into_bytes();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = Encoding::Json.decode(&bytes).map(take_anything);
    }
}
