//! Entry points for the fuzz targets in `fuzz/`: each takes any bytes, and panics where a contract does not hold.

use std::path::Path;
use std::sync::Arc;

use bus::{MAX_RECORD_BYTES, decode, encode, split};
use disk::FakeDisk;
use model::exposition::TextFormat;
use model::{Batch, MS_PER_DAY, MetricBatch};
use query::{Samples, Series, SeriesSelect, Wants};
use service::config::{Limits, Otlp};

use crate::api::otlp::{Changes, Deltas, Encoding, translate};
use crate::api::pushgateway::{grouping, read_protobuf};
use crate::api::write::{MessageError, Reading, read_v1, read_v2};
use crate::api::{graphite, import, influx, json_lines};
use crate::ingest::{Admission, Refusals, admit_metadata};
use crate::known::KnownSeries;
use crate::pairs::{Pairs, PairsVisit};
use crate::store::Store;

pub use crate::store::read_any_part;

const NOW_MS: i64 = 20_000 * MS_PER_DAY;
const OLDEST_MS: i64 = NOW_MS - 36_500 * MS_PER_DAY;
const TENANT: &str = "fuzz";

/// A message of remote write, read as 1.0 and as 2.0. What is admitted must pass the bus, the head and a part.
/// Answers how many series did.
pub fn remote_write(message: &[u8]) -> usize {
    let (mut refusals, mut stored) = (Refusals::default(), 0);
    let (known, limits) = (KnownSeries::default(), Limits::default());
    let mut read = |by: fn(&[u8], &mut Reading<'_, '_>) -> Result<MetricBatch, MessageError>| {
        let mut visit = known.visit();
        let senders = Pairs::default();
        let pairs = PairsVisit::new(&senders, TENANT, NOW_MS);
        let read = by(
            message,
            &mut Reading { pairs, known: &mut visit, limits: &limits, refusals: &mut refusals, newest_ms: 0 },
        );
        visit.end(0);
        read.ok()
    };
    // The second time the label sets are known.
    let batches = [read(read_v1), read(read_v2), read(read_v1), read(read_v2)];
    let shown = |batch: &Option<MetricBatch>| batch.as_ref().map(|batch| format!("{:?}", batch.series));
    assert!(shown(&batches[0]) == shown(&batches[2]) && shown(&batches[1]) == shown(&batches[3]));
    for batch in batches.into_iter().take(2).flatten() {
        let is_active = |_: &_| false;
        let (oldest_ms, now_ms, of_metric) = (OLDEST_MS, NOW_MS, |_: &str| 0);
        let admission =
            Admission { limits: &limits, oldest_ms, now_ms, room: 100, is_active: &is_active, of_metric: &of_metric };
        let mut series = batch.series;
        admission.admit_known(&mut series, &mut refusals);
        let metadata = admit_metadata(batch.metadata, &limits);
        stored += pass_on(MetricBatch { tenant: TENANT.to_owned(), series, metadata });
    }
    assert!(refusals.lines().count() < 20, "reasons are few");
    stored
}

/// A request of OpenTelemetry, as protobuf and as JSON, translated in both ways that histograms have.
pub fn otlp(body: &[u8]) -> usize {
    let (deltas, mut stored) = (Deltas::default(), 0);
    for encoding in [Encoding::Protobuf, Encoding::Json] {
        let Ok(request) = encoding.decode(body) else { continue };
        for convert_histograms_to_nhcb in [false, true] {
            let config = Otlp { convert_histograms_to_nhcb, ..Otlp::default() };
            let changes = Some(Changes::new(&deltas, TENANT));
            let translated = translate(request.clone(), &config, 300_000, changes);
            stored += admit(translated.batch, translated.refusals);
        }
    }
    stored
}

/// The same bytes as every text that is imported.
pub fn import(body: &[u8]) -> usize {
    let text = String::from_utf8_lossy(body);
    let _ = read_protobuf(body);
    if let Ok(labels) = grouping(&text) {
        assert!(labels.iter().all(|label| model::is_label_name(&label.name)));
    }
    let batches = [
        import::read(&text, TextFormat::Prometheus, NOW_MS, &[]),
        import::read(&text, TextFormat::OpenMetrics, NOW_MS, &[]),
        influx::read(&text, &influx::Reading::at(NOW_MS)),
        json_lines::read(body, &[]),
        graphite::read(&text, NOW_MS),
    ];
    batches.into_iter().map(|(batch, refusals)| admit(batch, refusals)).sum()
}

/// What is admitted must pass the bus, the head and a part. Answers how many series did.
fn admit(batch: MetricBatch, mut refusals: Refusals) -> usize {
    let limits = Limits::default();
    let (oldest_ms, now_ms, room) = (OLDEST_MS, NOW_MS, 100);
    let (is_active, of_metric) = (|_: &_| false, |_: &str| 0);
    let admission =
        Admission { limits: &limits, oldest_ms, now_ms, room, is_active: &is_active, of_metric: &of_metric };
    let mut series = batch.series;
    admission.admit(&mut series, &mut refusals);
    let metadata = admit_metadata(batch.metadata, &limits);
    assert!(refusals.lines().count() < 20, "reasons are few");
    pass_on(MetricBatch { tenant: TENANT.to_owned(), series, metadata })
}

fn pass_on(batch: MetricBatch) -> usize {
    let store = Store::open(Arc::new(FakeDisk::new()), Path::new("tsdb"), "bus").expect("an empty store opens");
    for (offset, part) in split(Batch::Metrics(batch)).into_iter().enumerate() {
        let record = encode(&part);
        assert!(record.len() <= MAX_RECORD_BYTES);
        let read = decode(&record).expect("what was written is read");
        // Not the batches: NaN is not NaN.
        assert_eq!(encode(&read), record);
        let Batch::Metrics(read) = read else { panic!("it was of metrics") };
        store.apply(0, offset as u64, &read, OLDEST_MS, NOW_MS);
    }
    let before = everything(&store);
    store.publish().expect("published");
    assert!(before == everything(&store), "parts answer as the head did");
    before.len()
}

/// All samples, as text: NaN is not NaN.
fn everything(store: &Store) -> Vec<String> {
    let request = SeriesSelect {
        tenant: TENANT,
        matchers: &[],
        start_ms: i64::MIN,
        end_ms: i64::MAX,
        wants: Wants::Values,
        deadline: None,
    };
    let set = store.select(&request).expect("selected");
    let mut samples = Samples::default();
    let mut one = |i: usize| {
        set.read(i, &mut samples).expect("read");
        assert!(samples.timestamps_ms.is_sorted_by(|a, b| a < b), "each instant once");
        assert_eq!(samples.timestamps_ms.len(), samples.values.len());
        samples.starts_ms.resize(samples.timestamps_ms.len(), 0);
        format!("{} {samples:?}", set.labels(i))
    };
    (0..set.len()).map(&mut one).collect()
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::api::write::{Count, Histogram, SamplePair, Span, ZeroCount, v1};

    #[test]
    fn entry_points_take_what_is_good_and_what_is_not() {
        let label = |name: &str, value: &str| v1::LabelPair { name: name.into(), value: value.into() };
        let histogram = Histogram {
            count: Some(Count::Integer(3)),
            zero_count: Some(ZeroCount::Integer(0)),
            positive_spans: vec![Span { offset: 0, length: 2 }],
            positive_deltas: vec![1, 1],
            sum: 2.5,
            t_ms: NOW_MS + 1,
            ..Histogram::default()
        };
        let series = v1::TimeSeries {
            labels: vec![label("__name__", "x"), label("a", "b")],
            samples: vec![SamplePair { value: 1.5, t_ms: NOW_MS }],
            histograms: vec![histogram],
            ..v1::TimeSeries::default()
        };
        let message = v1::Request { timeseries: vec![series], ..v1::Request::default() }.encode_to_vec();
        assert_eq!(remote_write(&message), 1);
        remote_write(&message[..message.len() - 1]);
        let at = NOW_MS / 1000;
        let point = format!(r#"{{"timeUnixNano":"{at}000000000","asInt":"3"}}"#);
        let request = format!(
            r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"name":"x","gauge":{{"dataPoints":[{point}]}}}}]}}]}}]}}"#
        );
        assert_eq!(otlp(request.as_bytes()), 2, "in both ways that histograms have");
        // In both text formats and as Graphite's line.
        assert_eq!(import(format!("x 1.5 {at}\n").as_bytes()), 3);
        for golden in [&include_bytes!("../testdata/part-v1.part")[..], include_bytes!("../testdata/part-v2.part")] {
            assert!(read_any_part(golden) > 0, "it has samples");
            read_any_part(&golden[..golden.len() - 1]);
        }
    }
}
